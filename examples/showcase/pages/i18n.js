/**
 * Every text of the pages, in English and Chinese, and the choice between them.
 *
 * A page writes `<h1 data-i18n="chat.title"></h1>`, or `t("chat.joined", { name })` in a script. For an attribute it writes
 * `data-i18n-placeholder="chat.write"`.
 */

const LANGUAGES = ["en", "zh"];

/** Both languages stand side by side, so that no text is forgotten in one of them. */
export const TEXTS = {
  "brand": ["Tidegate showcase", "Tidegate 示例"],
  "skip": ["Skip to content", "跳到正文"],
  "pages": ["Pages", "页面"],
  "language": ["中文", "English"],
  "close": ["Close", "关闭"],
  "cancel": ["Cancel", "取消"],

  "sign.in": ["Choose a name", "取个名字"],
  "sign.why": [
    "The others see it. There is no password: the name is yours in this browser.",
    "其他人会看到它。不需要密码：这个名字在本浏览器中归你使用。",
  ],
  "sign.name": ["Your name", "你的名字"],
  "sign.go": ["Go", "进入"],
  "sign.out": ["Sign out", "退出"],

  "state.idle": ["Connecting…", "正在连接…"],
  "state.connecting": ["Connecting…", "正在连接…"],
  "state.open": ["Live", "已连接"],
  "state.waiting": ["Connection lost, trying again…", "连接中断，正在重试…"],
  "state.offline": ["Offline", "离线"],
  "state.closed": ["Closed by the server", "已被服务器关闭"],

  "index.title": ["What a push tier is for", "推送层能做什么"],
  "index.lead": [
    "Small applications, each with one file on the server. Open a page in two windows, one of them private, with two names, and use them side by side.",
    "几个小应用，每个在服务器端只有一个文件。在普通窗口和隐私窗口里用两个名字打开同一个页面，一起试用。",
  ],

  "chat.title": ["Chat", "聊天"],
  "chat.card": [
    "Rooms, private messages, who is there and who types, pictures, search, and an admin who can mute.",
    "房间、私信、在线与输入状态、图片、搜索，以及可以禁言的管理员。",
  ],
  "chat.side": ["Rooms and people", "房间与成员"],
  "chat.rooms": ["Rooms", "房间"],
  "chat.people": ["People", "成员"],
  "chat.room.lobby": ["Lobby", "大厅"],
  "chat.room.kitchen": ["Kitchen", "厨房"],
  "chat.room.workshop": ["Workshop", "工作室"],
  "chat.leave": ["Leave {room}", "离开{room}"],
  "chat.older": ["Older messages", "更早的消息"],
  "chat.newest": ["New messages ↓", "新消息 ↓"],
  "chat.joined": ["{name} came in", "{name} 进来了"],
  "chat.left": ["{name} left", "{name} 离开了"],
  "chat.gap": ["You were away for long: the messages were loaded again.", "离开较久，消息已重新加载。"],
  "chat.status.online": ["online", "在线"],
  "chat.status.idle": ["idle", "空闲"],
  "chat.status.offline": ["offline", "离线"],
  "chat.status.typing": ["typing", "输入中"],
  "chat.typing": ["{names}: typing…", "{names} 正在输入…"],
  "chat.you": ["{name} (you)", "{name}（你）"],
  "chat.count": ["{count} here", "{count} 人在此"],
  "chat.unread": ["{count} new", "{count} 条新消息"],
  "chat.reply": ["Reply", "回复"],
  "chat.reply.to": ["Reply to {name}", "回复 {name}"],
  "chat.placeholder": ["Write…", "说点什么…"],
  "chat.write": ["Write to {room}", "发送到{room}"],
  "chat.send": ["Send", "发送"],
  "chat.sending": ["sending…", "发送中…"],
  "chat.again": ["Try again", "重试"],
  "chat.without": ["Remove", "移除"],
  "chat.image.add": ["Add an image", "添加图片"],
  "chat.image.by": ["Image from {name}", "{name} 发送的图片"],
  "chat.private.write": ["Write privately", "发私信"],
  "chat.private.new": ["{name} wrote to you privately.", "{name} 给你发了私信。"],
  "chat.mute": ["Mute for 5 minutes", "禁言 5 分钟"],
  "chat.mute.done": ["{name} is muted until {time}.", "{name} 已被禁言至 {time}。"],
  "chat.unmute": ["Unmute", "解除禁言"],
  "chat.unmute.done": ["{name} may write again.", "{name} 可以发言了。"],
  "chat.muted": ["You are muted here until {time}.", "你在此处被禁言至 {time}。"],
  "chat.search": ["Search messages", "搜索消息"],
  "chat.found": ["{count} found for “{q}”", "“{q}”：找到 {count} 条"],

  "notifications.title": ["Notifications", "通知"],
  "notifications.card": [
    "An inbox with what is unread, sent to one, several, everyone, or those with a permission.",
    "带未读数的收件箱，可发给一个人、几个人、所有人或拥有某项权限的人。",
  ],
  "notifications.inbox": ["Inbox", "收件箱"],
  "notifications.unread": ["{count} unread", "{count} 条未读"],
  "notifications.none": ["Nothing yet. Send something to yourself or to everyone.", "还没有通知。给自己或所有人发一条试试。"],
  "notifications.read": ["Mark as read", "标为已读"],
  "notifications.read.all": ["Mark all as read", "全部标为已读"],
  "notifications.to.you": ["to you", "发给你"],
  "notifications.to.all": ["to everyone", "发给所有人"],
  "notifications.to.staff": ["to staff", "发给员工"],
  "notifications.new": ["New from {name}: {text}", "{name} 的新通知：{text}"],
  "notifications.send": ["Send a notification", "发送通知"],
  "notifications.to": ["To", "收件人"],
  "notifications.people": ["One or several", "一人或几人"],
  "notifications.everyone": ["Everyone", "所有人"],
  "notifications.staff": ["Those with the permission “staff”", "拥有“staff”权限的人"],
  "notifications.text": ["Text", "内容"],
  "notifications.go": ["Send", "发送"],
  "notifications.sent": ["Sent.", "已发送。"],
  "notifications.you": ["{name} (you)", "{name}（你）"],
  "notifications.settings": ["How you are told", "接收方式"],
  "notifications.is.staff": ["I have the permission “staff”", "我拥有“staff”权限"],
  "notifications.is.staff.why": [
    "Here everybody decides that for themselves. In your application somebody else does.",
    "这里由每个人自己决定；在你的应用中由他人决定。",
  ],
  "notifications.desktop": ["Show them on the desktop, too", "同时显示桌面通知"],
  "notifications.desktop.on": ["On the desktop while this page is in the background.", "页面在后台时显示桌面通知。"],
  "notifications.desktop.off": ["The browser does not allow it. Its settings for this page can change that.", "浏览器不允许。可在浏览器的网站设置中更改。"],

  "tickers.title": ["Tickers", "行情"],
  "tickers.card": [
    "200 prices, once as they change and once conflated: the newest of each, once a second.",
    "200 个价格：一边逐笔推送，一边合并推送，每秒只发各价格的最新值。",
  ],
  "tickers.lead": [
    "The same 200 prices twice. A person reads no faster than the left side; the right side costs what it costs.",
    "同样的 200 个价格，两种推送方式。左侧的速度已足够阅读，右侧则要付出更多流量。",
  ],
  "tickers.saved": ["What conflation saves", "合并推送的节省"],
  "tickers.saves": ["{part} fewer events", "少发 {part} 的事件"],
  "tickers.rate": ["{rate}/s", "{rate}/秒"],
  "tickers.conflated": ["Conflated", "合并推送"],
  "tickers.conflated.hint": ["Once a second, the newest of each price that changed.", "每秒一次，只发有变化的价格的最新值。"],
  "tickers.every": ["Every change", "逐笔推送"],
  "tickers.every.hint": ["Each change, at once.", "每次变化，立即发送。"],
  "tickers.up": ["up", "上涨"],
  "tickers.down": ["down", "下跌"],
  "tickers.pause": ["Hold the boards", "暂停刷新"],

  "progress.title": ["Progress", "进度"],
  "progress.card": [
    "A real upload and a task with steps. Each tab shows the same, and a reload goes on where it was.",
    "真实的文件上传和分步任务：各标签页同步显示，刷新后继续。",
  ],
  "progress.lead": [
    "Open this page in a second tab. Both show what runs, and a reload changes nothing.",
    "在另一个标签页中也打开本页：两边显示相同的进度，刷新也不受影响。",
  ],
  "progress.upload": ["Upload a file", "上传文件"],
  "progress.upload.go": ["Upload", "上传"],
  "progress.bound": ["Up to {size}. Only you can open it.", "最大 {size}，仅你自己可以打开。"],
  "progress.slow": ["Over a slow line: 2 MB a second", "模拟慢速网络：每秒 2 MB"],
  "progress.report": ["Begin a task", "开始任务"],
  "progress.report.hint": [
    "It finds the primes below a million, in three steps, and goes on without this page.",
    "分三步找出一百万以内的质数；关闭本页也会继续运行。",
  ],
  "progress.report.go": ["Find primes", "查找质数"],
  "progress.jobs": ["Yours", "我的任务"],
  "progress.none": ["Nothing yet.", "暂无内容。"],
  "progress.waiting": ["Waiting to begin", "等待开始"],
  "progress.sent": ["{done} of {total}", "已上传 {done}，共 {total}"],
  "progress.step.primes": ["Step {nth} of {of}: finding primes", "第 {nth}/{of} 步：查找质数"],
  "progress.step.twins": ["Step {nth} of {of}: looking for twins", "第 {nth}/{of} 步：查找孪生质数"],
  "progress.step.write": ["Step {nth} of {of}: writing the file", "第 {nth}/{of} 步：写入文件"],
  "progress.done": ["Done", "已完成"],
  "progress.open": ["Save", "下载"],
  "progress.open.of": ["Save {name}", "下载 {name}"],
  "progress.stop": ["Stop", "停止"],
  "progress.stop.of": ["Stop {name}", "停止 {name}"],

  "ai.title": ["AI", "AI 问答"],
  "ai.card": [
    "An answer that appears while it is written. Stop it, reload in the middle, read along in another window.",
    "回答边生成边显示：可以停止、中途刷新，也可以在另一个窗口同步阅读。",
  ],
  "ai.lead": [
    "Ask something. The address of an answer can be opened by others, also while it is written.",
    "提一个问题。回答的网址可以让别人打开，生成过程中也可以。",
  ],
  "ai.model": ["Answers come from {model}.", "由 {model} 回答。"],
  "ai.model.none": [
    "Answers come from a stand-in that knows only this page: no model is set up.",
    "未配置模型，由内置的替身回答：它只了解本页面。",
  ],
  "ai.question": ["Your question", "你的问题"],
  "ai.go": ["Ask", "提问"],
  "ai.stop": ["Stop", "停止"],
  "ai.by": ["{name} asked at {time}", "{name} 提问于 {time}"],
  "ai.lately": ["Asked lately", "最近的提问"],
  "ai.none": ["Nobody has asked yet.", "还没有人提问。"],
  "ai.count": ["{words} characters, {seconds} s", "{words} 个字符，{seconds} 秒"],
  "ai.count.done": ["{words} characters", "{words} 个字符"],
  "ai.answer": ["Answer", "回答"],
  "ai.part": ["Part of this answer was missed. It is loaded when it is complete.", "部分内容未收到，完成后将自动补全。"],
  "ai.state.running": ["Being written", "生成中"],
  "ai.state.done": ["Complete", "已完成"],
  "ai.state.stopped": ["Stopped", "已停止"],
  "ai.state.too_long": ["Ended: it became too long", "已结束：回答过长"],
  "ai.state.model_failed": ["The model failed", "模型出错"],
  "ai.state.restarted": ["Lost: the server was started again", "已丢失：服务器重新启动了"],

  "monitor.title": ["Monitor", "监控"],
  "monitor.card": [
    "Charts of this machine and of Tidegate that move once a second, and are full at once.",
    "本机与 Tidegate 的实时图表，每秒更新，打开即有历史数据。",
  ],
  "monitor.lead": [
    "One event a second for everybody who looks. The last five minutes come from the room's history.",
    "每秒一个事件，所有观看者共享。最近五分钟的数据来自房间历史。",
  ],
  "monitor.pause": ["Hold the charts", "暂停刷新"],
  "monitor.machine": ["This machine", "本机"],
  "monitor.cpu": ["Processors", "处理器"],
  "monitor.cpus": ["of {count} cores", "共 {count} 核"],
  "monitor.memory": ["Memory", "内存"],
  "monitor.disk": ["Disk", "磁盘"],
  "monitor.of": ["{used} of {total}", "已用 {used}，共 {total}"],
  "monitor.connections": ["Connections", "连接数"],
  "monitor.published": ["Events published", "发布的事件"],
  "monitor.delivered": ["Events delivered", "送达的事件"],
  "monitor.bytes": ["Sent", "发送流量"],
  "monitor.rate": ["{rate}/s", "{rate}/秒"],
  "monitor.ago": ["{minutes} min ago", "{minutes} 分钟前"],
  "monitor.now": ["now", "现在"],
  "monitor.label": [
    "{name} in the last five minutes: now {now}, at least {low}, at most {high}",
    "{name}，最近五分钟：当前 {now}，最低 {low}，最高 {high}",
  ],

  "tutorial.title": ["Tutorial", "教程"],
  "tutorial.card": [
    "How these pages are built, step by step, with the code that runs here.",
    "一步一步讲解这些页面是怎样做出来的，代码就是这里运行的代码。",
  ],
  "tutorial.texts": ["Texts", "目录"],
  "tutorial.name.first-page": ["Your first page", "第一个页面"],
  "tutorial.name.chat": ["A chat in an hour", "一小时做出聊天室"],
  "tutorial.name.notifications": ["Notifications", "通知"],
  "tutorial.name.progress": ["A progress bar", "进度条"],
  "tutorial.name.ai": ["An AI answer", "AI 回答"],

  "error.unknown": ["That did not work: {title}", "操作失败：{title}"],
  "error.network": ["The server cannot be reached. Try again in a moment.", "无法连接服务器，请稍后再试。"],
  "error.internal": ["Something is broken on the server.", "服务器内部出错。"],
  "error.signed_out": ["Choose a name first.", "请先取个名字。"],
  "error.name_invalid": [
    "A name has 1 to 24 letters, digits, spaces, hyphens and underscores.",
    "名字由 1 到 24 个字母、汉字、数字、空格、连字符或下划线组成。",
  ],
  "error.name_taken": ["Somebody else has this name.", "这个名字已被使用。"],
  "error.names_full": ["There are no more names to give.", "名字已经用完。"],
  "error.repeated": ["You just said that. Give the others a moment to read it.", "这句话刚刚说过了，给大家一点时间看看吧。"],
  "error.muted": ["An admin has muted you here for a while.", "管理员暂时禁止你在此发言。"],
  "error.text_invalid": ["A message has 1 to 2,000 characters.", "消息长度为 1 到 2000 个字符。"],
  "error.image_invalid": ["An image is a PNG, JPEG, GIF or WebP file of at most 2 MiB.", "图片须为不超过 2 MiB 的 PNG、JPEG、GIF 或 WebP 文件。"],
  "error.notice_invalid": ["A notification has 1 to 280 characters.", "通知长度为 1 到 280 个字符。"],
  "error.recipients_invalid": ["Choose 1 to 50 people.", "请选择 1 到 50 个人。"],
  "error.push_unavailable": ["This cannot be delivered at the moment. Try again.", "暂时无法送达，请重试。"],
  "error.rate_limited": ["That was too fast. Wait a moment.", "操作太快，请稍等。"],
  "error.forbidden": ["You may not do this.", "你没有这个权限。"],
  "error.too_many_running": ["Enough is running already. Wait until something has finished.", "正在运行的任务已达上限，请等待其中一个完成。"],
  "error.file_too_large": ["This file is too large.", "文件太大。"],
  "error.file_name_invalid": ["The name of a file has 1 to 120 characters.", "文件名长度为 1 到 120 个字符。"],
  "error.upload_broken": ["The upload broke off.", "上传中断。"],
  "error.stopped": ["Stopped.", "已停止。"],
  "error.question_invalid": ["A question has 1 to 2,000 characters.", "问题长度为 1 到 2000 个字符。"],
  "error.restarted": ["The server was started again meanwhile.", "期间服务器重新启动了。"],
  "error.not_found": ["This is not there any more.", "内容已不存在。"],
};

/** The language that the user chose, or the first of the browser's that there is. */
export const language = (() => {
  const wanted = [localStorage.getItem("language"), ...navigator.languages];
  const known = wanted.map((tag) => LANGUAGES.find((one) => tag?.toLowerCase().split("-")[0] == one));
  return known.find(Boolean) ?? "en";
})();

/** Changes the language. The page is loaded again, because texts that were shown already have been put together. */
export function switchLanguage() {
  localStorage.setItem("language", LANGUAGES.find((one) => one != language));
  location.reload();
}

/** The text `key`, with `{name}` replaced by `values.name`. */
export function t(key, values = {}) {
  const text = TEXTS[key][LANGUAGES.indexOf(language)];
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** What to say of an error: a refusal of the application's, or a request that did not come through. */
export function sorry({ code = "network", message: title }) {
  return `error.${code}` in TEXTS ? t(`error.${code}`) : t("error.unknown", { title });
}

/** Writes the texts into `part` of the page. */
export function translate(part = document) {
  for (const element of part.querySelectorAll("[data-i18n]")) element.textContent = t(element.dataset.i18n);
  for (const name of ["placeholder", "aria-label", "title"]) {
    for (const element of part.querySelectorAll(`[data-i18n-${name}]`)) {
      element.setAttribute(name, t(element.getAttribute(`data-i18n-${name}`)));
    }
  }
}

const time = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

/** A time of today, or a day and its time. */
export function when(ms) {
  const date = new Date(ms);
  return (date.toDateString() == new Date().toDateString() ? time : day).format(date);
}
