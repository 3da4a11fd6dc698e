//! A pair of connections to one Redis, and the commands of a link on them.

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, cmd};

use crate::order::redis::call::{AppendAnswer, AppendCall, AttachAnswer, AttachCall, Beyond, Closed};
use crate::order::redis::entry::EntryId;
use crate::order::redis::link::{Happened, Unfit};
use crate::order::redis::scripts::{self, APPEND, ATTACH, Call, Keep, LOOK, Value};
use crate::upstream::redis::address::Address;
use crate::upstream::redis::sentinel;

/// How long a read waits for an entry, in milliseconds. Its answer without one shows that the connection lives.
const BLOCK_MS: u32 = 1000;

/// Two connections to the same process, and perhaps a third.
#[derive(Clone)]
pub(super) struct Pair {
    /// Attaches and appends.
    append: MultiplexedConnection,
    /// Reads, and waits for what there is to read.
    follow: MultiplexedConnection,
    attach_sha: String,
    look_sha: String,
    append_sha: String,
    /// Asks what else has everything.
    confirm: Option<(MultiplexedConnection, Beyond)>,
}

/// Why there is no pair.
pub(super) enum NoPair {
    /// It cannot be reached, or is no master.
    Failed(String),
    /// It cannot be used.
    Unfit(Unfit),
}

impl From<RedisError> for NoPair {
    fn from(err: RedisError) -> Self {
        Self::Failed(err.to_string())
    }
}

impl Pair {
    /// Opens a pair, and looks whether the server may be used.
    pub(super) async fn open(address: &Address, beyond: Option<Beyond>) -> Result<Self, NoPair> {
        let named = match address.sentinels().map_err(NoPair::Failed)? {
            Some((sentinels, name)) => {
                Some(sentinel::master(&sentinels, name).await.map_err(NoPair::Failed)?)
            }
            None => None,
        };
        let client = address.client(named).map_err(NoPair::Failed)?;
        let (mut append, mut follow) = (connect(&client).await?, connect(&client).await?);
        let (one, other) = (Facts::of(&mut append).await?, Facts::of(&mut follow).await?);
        one.check()?;
        let confirm = match beyond {
            Some(beyond) => Some((confirming(&client, beyond, &one).await?, beyond)),
            None => None,
        };
        if one.run_id != other.run_id {
            return Err(NoPair::Failed("the two connections are to different servers".into()));
        }
        let attach_sha = load(&mut append, ATTACH).await?;
        let look_sha = load(&mut append, LOOK).await?;
        let append_sha = load(&mut append, APPEND).await?;
        Ok(Self { append, follow, attach_sha, look_sha, append_sha, confirm })
    }

    /// Says where the order is.
    pub(super) async fn attach(mut self, keep: &Keep, asked: &AttachCall) -> Result<Happened, RedisError> {
        let answer = run(&mut self.append, &self.attach_sha, ATTACH, &keep.attach(asked)).await;
        let answer = match answer {
            // A key of that name is of another type.
            Err(err) if err.code() == Some("WRONGTYPE") => {
                return Ok(Happened::Attached(AttachAnswer::Foreign));
            }
            Err(err) if closed(&err).is_some() => return self.look(keep, asked, err).await,
            answer => answer?,
        };
        scripts::attached(&answer).map(Happened::Attached).ok_or_else(not_understood)
    }

    /// Says where the order is in a Redis that takes no writes, because of `err`. If nothing has to be written, a node can
    /// read all the same.
    async fn look(
        mut self,
        keep: &Keep,
        asked: &AttachCall,
        err: RedisError,
    ) -> Result<Happened, RedisError> {
        let answer = run(&mut self.append, &self.look_sha, LOOK, &keep.look(asked)).await?;
        scripts::attached(&answer).map(Happened::Attached).ok_or(err)
    }

    /// Appends an entry.
    pub(super) async fn append(
        mut self,
        keep: &Keep,
        life: &str,
        asked: &AppendCall,
    ) -> Result<Happened, RedisError> {
        let answer = run(&mut self.append, &self.append_sha, APPEND, &keep.append(life, asked)).await;
        let closed = answer.as_ref().err().and_then(closed);
        let answer = match closed {
            Some(closed) => Some(AppendAnswer::Closed(closed)),
            None => scripts::appended(&answer?, &asked.batches),
        };
        answer.map(|answer| Happened::Appended(asked.seq, answer)).ok_or_else(not_understood)
    }

    /// Asks whether a replica, or the disk, has everything that was written before. What was written on other connections
    /// counts only because something is written on this one after it.
    pub(super) async fn confirm(self, keep: &Keep, life: &str) -> Result<Happened, RedisError> {
        let Some((mut conn, beyond)) = self.confirm else { return Ok(Happened::Confirmed(false)) };
        let mut asked = redis::pipe();
        asked.cmd("SET").arg(keep.asked()).arg(life).arg("PX").arg(ASKED_MS).ignore();
        match beyond {
            Beyond::Replica => asked.cmd("WAIT").arg(1).arg(CONFIRM_MS),
            Beyond::Disk => asked.cmd("WAITAOF").arg(1).arg(0).arg(CONFIRM_MS),
        };
        let answer: Result<(redis::Value,), _> = asked.query_async(&mut conn).await;
        let has = |value: &redis::Value| matches!(value, redis::Value::Int(1..));
        match answer {
            Ok((redis::Value::Array(counts),)) => Ok(Happened::Confirmed(counts.first().is_some_and(has))),
            Ok((count,)) => Ok(Happened::Confirmed(has(&count))),
            Err(err) if closed(&err).is_some() => Ok(Happened::Confirmed(false)),
            Err(err) => Err(err),
        }
    }

    /// Reads the first entry from `id` on.
    pub(super) async fn probe(mut self, keep: &Keep, id: EntryId) -> Result<Happened, RedisError> {
        let mut asked = cmd("XRANGE");
        asked.arg(keep.log()).arg(id.to_string()).arg("+").arg("COUNT").arg(1);
        let answer = asked.query_async(&mut self.append).await.map(neutral)?;
        let mut found = scripts::entries(&answer).ok_or_else(not_understood)?;
        Ok(Happened::Probed(found.pop().flatten()))
    }

    /// Reads what is behind `after`, or waits for it for a while.
    pub(super) async fn read(
        mut self,
        keep: &Keep,
        after: EntryId,
        entries_max: usize,
    ) -> Result<Happened, RedisError> {
        let mut asked = cmd("XREAD");
        asked.arg("COUNT").arg(entries_max).arg("BLOCK").arg(BLOCK_MS);
        asked.arg("STREAMS").arg(keep.log()).arg(after.to_string());
        let answer = asked.query_async(&mut self.follow).await.map(neutral)?;
        scripts::read(&answer).map(Happened::Read).ok_or_else(not_understood)
    }
}

/// How long Redis waits for a replica or its disk, in milliseconds.
const CONFIRM_MS: u32 = 1000;

/// How long the key of a question is kept, in milliseconds. Nobody reads it.
const ASKED_MS: u32 = 60_000;

/// A connection to the server with these `facts` that asks what else has everything.
async fn confirming(client: &Client, beyond: Beyond, facts: &Facts) -> Result<MultiplexedConnection, NoPair> {
    let mut conn = connect(client).await?;
    if Facts::of(&mut conn).await?.run_id != facts.run_id {
        return Err(NoPair::Failed("the connections are to different servers".into()));
    }
    // Nothing has to be waited for, so this only shows whether the command is there.
    let (asked, unfit) = match beyond {
        Beyond::Replica => (cmd("WAIT").arg(0).arg(1).to_owned(), Unfit::NoWait),
        Beyond::Disk => (cmd("WAITAOF").arg(0).arg(0).arg(1).to_owned(), Unfit::NoWaitaof),
    };
    match asked.query_async::<redis::Value>(&mut conn).await {
        Err(err) if err.code() == Some("NOPERM") || is_unknown(&err) => Err(NoPair::Unfit(unfit)),
        Err(err) => Err(err.into()),
        Ok(_) if beyond == Beyond::Disk && !facts.has_log => Err(NoPair::Unfit(Unfit::NoLog)),
        Ok(_) => Ok(conn),
    }
}

impl Pair {
    /// Makes a script known to Redis, and returns its hash.
    pub(super) async fn load(&mut self, script: &str) -> Result<String, RedisError> {
        load(&mut self.append, script).await
    }

    /// Runs a script by its hash.
    pub(super) async fn run(&mut self, sha: &str, script: &str, call: &Call) -> Result<Value, RedisError> {
        run(&mut self.append, sha, script, call).await
    }
}

/// Time-outs are the link's.
async fn connect(client: &Client) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

async fn load(conn: &mut MultiplexedConnection, script: &str) -> Result<String, RedisError> {
    cmd("SCRIPT").arg("LOAD").arg(script).query_async(conn).await
}

/// Runs a script by its hash. If Redis has forgotten it, by its text.
async fn run(
    conn: &mut MultiplexedConnection,
    sha: &str,
    script: &str,
    call: &Call,
) -> Result<Value, RedisError> {
    let asked = |name, script: &str| -> Cmd {
        let mut asked = cmd(name);
        asked.arg(script).arg(call.keys.len()).arg(&call.keys);
        for arg in &call.args {
            asked.arg(&arg[..]);
        }
        asked
    };
    let answer = asked("EVALSHA", sha).query_async(conn).await;
    let is_forgotten = |err: &RedisError| err.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
    if answer.as_ref().is_err_and(is_forgotten) {
        return asked("EVAL", script).query_async(conn).await.map(neutral);
    }
    answer.map(neutral)
}

/// Why Redis took no write, if it says that it took none and takes others later.
fn closed(err: &RedisError) -> Option<Closed> {
    match err.code()? {
        "OOM" => Some(Closed::Full),
        "MISCONF" | "NOREPLICAS" => Some(Closed::Unsafe),
        _ => None,
    }
}

fn not_understood() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "an answer that is not understood").into()
}

/// The client's value without what is particular to it. Bytes are moved.
fn neutral(value: redis::Value) -> Value {
    match value {
        redis::Value::Nil => Value::Nil,
        redis::Value::BulkString(bytes) => Value::Bytes(bytes.into()),
        redis::Value::SimpleString(text) => Value::Bytes(text.into()),
        redis::Value::Int(number) => Value::Bytes(Bytes::from(number.to_string())),
        redis::Value::Array(values) => Value::List(values.into_iter().map(neutral).collect()),
        _ => Value::Other,
    }
}

/// What a server says of itself (`INFO`).
struct Facts {
    /// Names the process.
    run_id: String,
    version: String,
    role: String,
    policy: String,
    /// Whether it writes a log on its disk.
    has_log: bool,
}

impl Facts {
    async fn of(conn: &mut MultiplexedConnection) -> Result<Self, NoPair> {
        let info: Result<String, RedisError> = cmd("INFO").query_async(conn).await;
        match info {
            Ok(info) => Ok(Self::read(&info)),
            Err(err) if err.code() == Some("NOPERM") || is_unknown(&err) => {
                Err(NoPair::Unfit(Unfit::Unknown))
            }
            Err(err) => Err(err.into()),
        }
    }

    fn read(info: &str) -> Self {
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or_default().trim().to_owned()
        };
        let (run_id, version) = (field("run_id"), field("redis_version"));
        let has_log = field("aof_enabled") == "1";
        Self { run_id, version, role: field("role"), policy: field("maxmemory_policy"), has_log }
    }

    fn check(&self) -> Result<(), NoPair> {
        let major: Option<u32> = self.version.split('.').next().and_then(|major| major.parse().ok());
        match major {
            None => Err(NoPair::Unfit(Unfit::Unknown)),
            Some(..7) => Err(NoPair::Unfit(Unfit::Version)),
            Some(_) if self.policy.starts_with("allkeys") => Err(NoPair::Unfit(Unfit::Eviction)),
            Some(_) if self.role == "slave" => Err(NoPair::Failed("it is a replica".into())),
            Some(_) => Ok(()),
        }
    }
}

fn is_unknown(err: &RedisError) -> bool {
    err.detail().is_some_and(|detail| detail.starts_with("unknown command"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfit(info: &str) -> Option<Unfit> {
        match Facts::read(info).check() {
            Err(NoPair::Unfit(why)) => Some(why),
            Err(NoPair::Failed(_)) | Ok(()) => None,
        }
    }

    #[test]
    fn a_server_is_used_only_if_it_keeps_what_it_is_given() {
        assert_eq!(unfit("# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n"), None);
        assert_eq!(unfit("redis_version:7.0.15\r\nmaxmemory_policy:volatile-lru\r\n"), None);
        assert_eq!(unfit("redis_version:7.0.15\r\nmaxmemory_policy:allkeys-lru\r\n"), Some(Unfit::Eviction));
        assert_eq!(unfit("redis_version:6.2.1\r\n"), Some(Unfit::Version));
        assert_eq!(unfit("nothing"), Some(Unfit::Unknown));
    }
}
