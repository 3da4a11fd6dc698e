//! The table of settings: each has one row with its help text, type, default and the values it accepts.
//!
//! The comment above a row is also its text in `--help`, so its only Markdown is code.

use std::path::PathBuf;
use std::time::Duration;

use hyper::header::HeaderName;

use crate::config::SHARDS_MAX;
use crate::config::error::ConfigError;
use crate::config::kinds::access::{
    PUBLIC_ROOMS_MAX, RoomPattern, cookie_name, file_path, room_pattern, text,
};
use crate::config::kinds::addresses::{ADDRESSES_MAX, AddressRange, TRUSTED_PROXIES_MAX, address_range};
use crate::config::kinds::bounded::{
    CONNECTIONS_CEILING, GIB, HOUR, KIB, MIB, MINUTE, MS, SECOND, duration, integer, size,
};
use crate::config::kinds::choices::{
    DeliveryOverflow, ForeignOrigins, LogFormat, LogLevel, RefusalStyle, TryPage, UserOverflow, bare, choice,
    switch,
};
use crate::config::kinds::listen::{LISTEN_ADDRS_MAX, Listen, ListenAddr, listen, listen_addr};
use crate::config::kinds::memory::{MemoryLimit, memory_limit};
use crate::config::kinds::order::{Ack, OrderPlace, order_place};
use crate::config::kinds::origins::{CORS_HEADERS_MAX, CorsOrigins, cors_origins, header_name};
use crate::config::kinds::path::base_path;
use crate::config::kinds::rate::{rate, rate_of};
use crate::config::kinds::requests::{
    ALLOWED_HOSTS_MAX, DENIED_USER_AGENTS_MAX, DeniedUserAgent, HostPattern, REQUIRED_HEADERS_MAX,
    RequiredHeader, denied_user_agent, host_pattern, required_header,
};
use crate::config::kinds::rooms::KnownRooms;
use crate::config::kinds::token_key::{JwksSource, TOKEN_KEYS_MAX, TokenKey, jwks_source, token_key};
use crate::config::kinds::upstream::{UpstreamUrl, upstream_url};
use crate::config::kinds::{Kind, auto_or, list, off_or, zero_or};
use crate::config::layers::Layers;
use crate::config::room_table::{self, RoomTable};
use crate::config::setting::{Setting, facts, settings};
use crate::types::rate::Rate;

settings! {
    /// Every setting, valid. Nothing downstream re-checks.
    ///
    /// Sizes are in bytes. What is off is `None`. `shards`, `max_connections`, `max_requests` and
    /// `max_waiting_requests` are never 0: what 0 stands for is filled in. `base_path` is a prefix of `/stream` as it is:
    /// it starts with a slash, does not end in one, and is empty for the root.
    Config, SETTINGS;

    /// The tables `[[room]]` of the file: what is different in some rooms. At most
    /// [`ROOM_POLICIES_MAX`](crate::hub::room_policy::ROOM_POLICIES_MAX), in their order; the first that matches counts.
    "room" room_tables: Vec<RoomTable> = room_table::read_all;

    "Listening" {
        /// Where subscribers and publishers connect: addresses and Unix sockets, all serving the same. With `proxy:` in
        /// front, every connection has to begin with a PROXY protocol header, which names the client. After a path,
        /// `;mode=0660` and `;group=www-data` limit which users may connect. Sockets that systemd passes replace this
        /// setting.
        listen: Vec<Listen> = "127.0.0.1:8080", list(listen(), 1..=LISTEN_ADDRS_MAX);

        /// Where `/metrics`, `/livez`, `/readyz` and `/dashboard` are served. Keep it away from the public.
        admin_listen: Option<ListenAddr> = "127.0.0.1:9180", off_or(listen_addr(), "127.0.0.1:9180");

        /// Listen on addresses that other machines reach although no authentication is set up.
        insecure: bool = "false", bare();

        /// Proxies whose `X-Forwarded-For` or PROXY protocol header names the client: addresses, networks, and `unix`
        /// for all connections to the Unix sockets. Any other peer counts as the client itself.
        trusted_proxies: Vec<AddressRange> = "", list(address_range(), 0..=TRUSTED_PROXIES_MAX);

        /// The prefix of `/stream`, `/publish` and the other paths.
        base_path: String = "/api/v1/sse", base_path();

        /// Origins whose pages may use the server from a browser, besides its own. Apps and extensions have origins
        /// too, such as `capacitor://localhost`; `null` is every sandboxed frame.
        cors_origins: CorsOrigins = "", cors_origins();

        /// Whether pages of `cors_origins` may send cookies along.
        cors_credentials: bool = "off", switch();

        /// Headers that pages of `cors_origins` may send besides the usual ones, such as `authorization` and `traceparent`.
        cors_headers: Vec<HeaderName> = "", list(header_name(), 0..=CORS_HEADERS_MAX);

        /// Whether `GET /` gives a browser a page to try things on. `auto` does so while no authentication is set up.
        try_page: TryPage = "auto", choice::<TryPage>();
    }

    "Request checks" {
        /// Host names that requests may use, without a port: names, `*.name` for all names below one, and addresses.
        /// Empty allows every host; but while no authentication is set up, a browser on this machine has to use an
        /// address or `localhost`, because any page could make its own name resolve to this server.
        allowed_hosts: Vec<HostPattern> = "", list(host_pattern(), 0..=ALLOWED_HOSTS_MAX);

        /// What pages of origins that are not in `cors_origins` may do: with `read`, send requests that change nothing,
        /// but not see the answers; with `refuse`, nothing.
        foreign_origins: ForeignOrigins = "read", choice::<ForeignOrigins>();

        /// Clients that are let in: addresses, networks, and `unix` for connections to a Unix socket that no proxy
        /// forwards. Empty allows every client.
        allowed_addresses: Vec<AddressRange> = "", list(address_range(), 0..=ADDRESSES_MAX);

        /// Clients that are refused, those of `allowed_addresses` included.
        denied_addresses: Vec<AddressRange> = "", list(address_range(), 0..=ADDRESSES_MAX);

        /// Headers that every request needs: `name`, or `name=value`, which is kept secret.
        required_headers: Vec<RequiredHeader> = "", list(required_header(), 0..=REQUIRED_HEADERS_MAX);

        /// Programs that are refused, by a part of their `User-Agent` in any case; `none` refuses requests without one.
        /// Stops honest clients only.
        denied_user_agents: Vec<DeniedUserAgent> = "", list(denied_user_agent(), 0..=DENIED_USER_AGENTS_MAX);
    }

    "Access" {
        /// Rooms that can be listened to without a token, such as `public-*`. All others need one as soon as tokens,
        /// API keys or a callback are set up.
        public_rooms: Vec<RoomPattern> = "", list(room_pattern(), 0..=PUBLIC_ROOMS_MAX);

        /// Keys that verify tokens: `ALG:file:PATH`, a secret or a public key in PEM, or `HS256:base64:SECRET`.
        token_keys: Vec<TokenKey> = "", list(token_key(), 0..=TOKEN_KEYS_MAX);

        /// Sets of keys (JWKS): URLs, which are fetched every `jwks_refresh`, and files, which a reload reads again.
        token_jwks: Vec<JwksSource> = "", list(jwks_source(), 0..=TOKEN_KEYS_MAX);

        /// The `iss` that tokens need.
        token_issuer: Option<String> = "off", off_or(text(), "https://issuer.example");

        /// Names of this server: the `aud` of a token needs one of them. If empty, tokens with an `aud` are refused.
        token_audience: Vec<String> = "", list(text(), 0..=TOKEN_KEYS_MAX);

        /// How much the issuer's clock may differ from the server's.
        token_leeway: Duration = "5s", duration(Duration::ZERO..=5 * MINUTE);

        /// The claim that lists a token's permissions.
        token_permissions_claim: String = "permissions", text();

        /// A TOML file with the hashes of API keys, for backends that publish.
        api_keys_file: Option<PathBuf> = "off", off_or(file_path(), "/etc/tidegate/keys.toml");

        /// Cookie that may hold the token, for browsers: `EventSource` cannot set headers.
        token_cookie: Option<String> = "off", off_or(cookie_name(), "__Host-token");

        /// Whether the token may be in the URL as `?token=`. URLs end up in logs and histories: use short-lived tokens.
        token_query: bool = "off", switch();

        /// How long a revocation is kept. At least as long as the longest life of a token.
        revocation_time: Duration = "24h", duration(MINUTE..=30 * 24 * HOUR);

        /// The application's URL that decides about streams without tokens. It gets a POST with the subscriber's own
        /// `Authorization` and `Cookie`.
        auth_callback: Option<UpstreamUrl> = "off", off_or(upstream_url(), "http://127.0.0.1:3000/sse/auth");

        /// How long the application may take to answer. After that, subscribers are refused softly and come back.
        auth_callback_timeout: Duration = "2s", duration(50 * MS..=30 * SECOND);

        /// Questions sent to the application at once. Some more wait for their turn, the rest are refused softly.
        auth_callback_concurrency: usize = "64", integer(1..=1024);

        /// How long an answer holds for the same question. 0 asks each time.
        auth_callback_cache: Option<Duration> = "5s", zero_or(duration(100 * MS..=HOUR));

        /// The application's URL that is told of streams that ended.
        disconnect_callback: Option<UpstreamUrl> = "off", off_or(upstream_url(), "http://127.0.0.1:3000/sse/gone");

        /// The application's URL that is asked about each event that a user publishes, in rooms whose table has
        /// `publish` among its `callbacks`.
        publish_callback: Option<UpstreamUrl> = "off", off_or(upstream_url(), "http://127.0.0.1:3000/sse/publish");

        /// How long the application may take to answer about an event. After that, the event is refused with 503.
        publish_callback_timeout: Duration = "2s", duration(50 * MS..=30 * SECOND);

        /// The application's URL that is told who comes and goes, in rooms whose table has `presence` among its
        /// `callbacks`.
        presence_callback: Option<UpstreamUrl> = "off", off_or(upstream_url(), "http://127.0.0.1:3000/sse/presence");

        /// How often the URLs of `token_jwks` are fetched again.
        jwks_refresh: Duration = "10m", duration(10 * SECOND..=24 * HOUR);

        /// Certificates in PEM that are trusted besides the system's, for https requests to other servers.
        upstream_ca_file: Option<PathBuf> = "off", off_or(file_path(), "/etc/tidegate/ca.pem");
    }

    "Work" {
        /// Threads, each with its own connections. 0 is one per core.
        shards: usize = "0", integer(0..=SHARDS_MAX);

        /// How long a busy room gathers events for one write. More saves CPU and adds latency; 0 writes each event at
        /// once. A quiet room never waits.
        flush_interval: Duration = "10ms", duration(Duration::ZERO..=10 * SECOND);

        /// Compress streams for subscribers that ask for it, once per batch for all of them.
        gzip: bool = "off", switch();
    }

    "Connections" {
        /// Streams open at once; the next is refused. 0 is as many as the open files limit allows.
        max_connections: usize = "0", integer(0..=CONNECTIONS_CEILING);

        /// Streams one user may have open. 0 is any number.
        max_connections_per_user: Option<usize> = "8", zero_or(integer(1..=CONNECTIONS_CEILING));

        /// Whether a user's first stream above the limit is refused or replaces the oldest.
        user_overflow: UserOverflow = "refuse", choice::<UserOverflow>();

        /// Streams one IP address may have open. 0 is any number. Behind a proxy, all streams come from its address
        /// unless it is one of `trusted_proxies`.
        max_connections_per_address: Option<usize> = "0", zero_or(integer(1..=CONNECTIONS_CEILING));

        /// Whether a temporary refusal is a stream with one event, after which browsers reconnect, or a status 503,
        /// which load balancers understand.
        refusal: RefusalStyle = "event", choice::<RefusalStyle>();

        /// How long a disconnected user is told to stay away. 0 is not at all.
        stay_away: Duration = "1m", duration(Duration::ZERO..=24 * HOUR);

        /// The kernel's send buffer for each stream, in bytes. It bounds what a slow subscriber costs.
        send_buffer: usize = "64KiB", size(4 * KIB..=4 * MIB);

        /// How old a stream's oldest unsent event may get before the stream is closed.
        max_unsent_age: Duration = "30s", duration(100 * MS..=HOUR);

        /// How long sent bytes may stay unacknowledged before the peer counts as dead (`TCP_USER_TIMEOUT`). When off,
        /// the kernel decides, after about 15 minutes.
        tcp_user_timeout: Option<Duration> = "30s", off_or(duration(100 * MS..=HOUR), "30s");

        /// How long a stream is silent before it gets a heartbeat. Keep it below the idle timeouts of proxies.
        heartbeat: Duration = "25s", duration(SECOND..=10 * MINUTE);

        /// About how long browsers wait before they connect again. Each stream gets a different time around this one.
        retry: Duration = "3s", duration(100 * MS..=5 * MINUTE);

        /// How long a stream may last before it is closed and resumed. Ends streams that a proxy keeps open for clients
        /// that are gone.
        lease: Option<Duration> = "off", off_or(duration(SECOND..=30 * 24 * HOUR), "1h");

        /// How long closing all streams takes on SIGTERM, at most. Streams that are still open then are cut off.
        drain: Duration = "5s", duration(Duration::ZERO..=HOUR);

        /// How fast streams are closed on SIGTERM, so that they do not all come back at once. A few are closed at once;
        /// if this rate would take longer than `drain`, closing is faster.
        drain_rate: Rate = "1000/s", rate_of("streams");
    }

    "History" {
        /// Events kept for each room, for subscribers that join or come back.
        history_events: usize = "1000", integer(0..=1_000_000);

        /// Bytes of events kept for each room.
        history_bytes: usize = "1MiB", size(4 * KIB..=GIB);

        /// How long events are kept.
        history_age: Duration = "1h", duration(SECOND..=30 * 24 * HOUR);

        /// Bytes of events kept for all rooms together. `auto` is 256 MiB, or half of the memory limit if that is less.
        history_total_bytes: Option<usize> = "auto", auto_or(size(MIB..=1024 * GIB), "256MiB");
    }

    "Order" {
        /// Where the order of events is kept. With `memory` it ends with the process; every subscriber that comes back after
        /// a restart is told of a gap. With `disk:PATH` in a folder, which it must have for itself: a publish is answered
        /// once it is written, and subscribers go on after a restart. With the URL of a Redis, all nodes with the same Redis and
        /// prefix have one order: `redis://`, `rediss://` with TLS, `redis+sentinel://HOST,HOST/NAME`, `rediss+sentinel://` with
        /// TLS to sentinels and Redis, or `unix:PATH`.
        order: OrderPlace = "memory", order_place();

        /// Bytes the order may take on disk, or in Redis, where a copy of it takes about twice as much. The oldest is removed before
        /// there are more: on disk a segment of 16 MiB.
        order_bytes: usize = "256MiB", size(64 * MIB..=1024 * GIB);

        /// How long events are kept on disk or in Redis. What is kept for subscribers is the least of this and the settings of the history.
        order_age: Duration = "24h", duration(MINUTE..=10 * 365 * 24 * HOUR);

        /// What has an event before its publish is answered. `auto` is what the order is in: memory, disk or Redis. `redis+1`
        /// waits for a replica of Redis as well, and `redis-disk` for the disk of Redis; if that takes longer than a second,
        /// the publish is answered with 503 `publish_unknown`. `memory` does not wait for the disk of an order on disk.
        order_ack: Option<Ack> = "auto", auto_or(choice::<Ack>(), "redis+1");

        /// Whether subscribers are told by an event `stale` when Redis has been away for ten seconds.
        order_stale: bool = "off", switch();

        /// How the keys in Redis begin. Nodes with another prefix have another order.
        order_prefix: String = "tidegate", text();

        /// A file with the password for Redis and its sentinels, instead of one in the URL. It is read at each connection.
        order_password_file: Option<PathBuf> = "off", off_or(file_path(), "/etc/tidegate/redis-password");

        /// Certificates (PEM) to trust for `rediss://` and `rediss+sentinel://`, instead of the system's.
        order_ca_file: Option<PathBuf> = "off", off_or(file_path(), "/etc/tidegate/redis-ca.pem");
    }

    "Rooms" {
        /// Which rooms there are: `any` that is asked for, or with `listed` only those that a table `[[room]]` matches.
        /// All others are refused with 403.
        rooms: KnownRooms = "any", choice::<KnownRooms>();

        /// Whether each event of a room says in a line `room:` which room it is from. Browsers pass over that line.
        event_room: bool = "on", switch();
    }

    "Memory" {
        /// Resident memory the process should stay below. As it passes shares of this limit, replays stop, the streams
        /// furthest behind are closed, new streams are refused, and then publishes. `auto` is the control group's
        /// limit, or the machine's memory.
        memory_limit: MemoryLimit = "auto", memory_limit();

        /// Bytes that bodies of requests, answers, and questions about events may hold together, without the first 16 KiB
        /// of each. The next is refused with 503. `auto` is 64 MiB, or an eighth of the memory limit if that is less.
        http_total_bytes: Option<usize> = "auto", auto_or(size(MIB..=64 * GIB), "64MiB");
    }

    "Rates" {
        /// Events one user's streams get, at most.
        delivery_rate_per_user: Option<Rate> = "off", off_or(rate(), "50/s");

        /// Whether an event above the delivery rate is dropped, with a gap in its place, or waits.
        delivery_overflow: DeliveryOverflow = "drop", choice::<DeliveryOverflow>();

        /// Events one user may publish, at most. The default applies only while authentication is set up.
        publish_rate_per_user: Option<Rate> = "20/s", off_or(rate(), "20/s");
    }

    "Requests" {
        /// Connections that speak HTTP at once: requests, and streams that begin. More wait for a free place. 0 is an
        /// eighth of the open files limit, from 16 to 512.
        max_requests: usize = "0", integer(0..=CONNECTIONS_CEILING);

        /// How many of `max_requests` may wait long: publish streams between two lines, and subscribers while the
        /// application is asked. The next is refused softly or with 503. At most half of `max_requests`, which is what
        /// 0 means.
        max_waiting_requests: usize = "0", integer(0..=CONNECTIONS_CEILING);

        /// Bytes one event may have.
        max_event_bytes: usize = "256KiB", size(KIB..=16 * MIB);

        /// Bytes the body of a request may have. At least `max_event_bytes`.
        max_body_bytes: usize = "1MiB", size(KIB..=64 * MIB);

        /// Bytes the head of a request may have.
        max_head_bytes: usize = "16KiB", size(8 * KIB..=MIB);

        /// How long the head of a request may take to arrive. Its body gets the same time.
        request_timeout: Duration = "10s", duration(100 * MS..=10 * MINUTE);

        /// How long a connection may stay open between two requests. Keep it above the proxy's own timeout, or the
        /// proxy uses connections that were just closed.
        keepalive_timeout: Duration = "75s", duration(100 * MS..=HOUR);

        /// How long a streamed body may send nothing between two lines.
        publish_idle: Duration = "5m", duration(100 * MS..=24 * HOUR);

        /// How long an idempotency key is remembered: a repeat within this time is answered like the first request, and
        /// publishes nothing.
        idempotency_time: Duration = "5m", duration(SECOND..=24 * HOUR);

        /// Idempotency keys that are remembered at once; as much of the data that `refuse_repeats` compares is remembered
        /// beside them. The oldest are forgotten first. 0 remembers none.
        idempotency_keys: usize = "100000", integer(0..=10_000_000);
    }

    "Logging" {
        /// The least serious lines that are logged.
        log_level: LogLevel = "info", choice::<LogLevel>();

        /// Lines for people, or one JSON object each.
        log_format: LogFormat = "text", choice::<LogFormat>();
    }
}
