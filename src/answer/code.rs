//! The codes of error answers, each with its status and its title.

use std::fmt;

use hyper::StatusCode;

use crate::types::words::words;

/// Declares [`Code`]: one line each for variant, code, status and title, so that none can be forgotten.
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $code:literal $status:ident $title:literal;)+) => {
        words! {
            /// Why a request was refused, as the `code` member says it. Clients rely on it: a released code never
            /// changes.
            #[non_exhaustive]
            Code { $($(#[$doc])* $variant = $code,)+ }
        }

        impl Code {
            /// The status of the answer.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }

            /// The `title` member: one sentence for people, always the same for this code.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
        }
    };
}

codes! {
    // The path and the method.
    /// No resource has this path.
    NotFound "not_found" NOT_FOUND
        "nothing is served at this path; see detail";
    /// The resource exists and does not take this method; `Allow` lists those it takes.
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED
        "this path does not take this method; see Allow";
    /// The path holds bad percent-encoding, NUL, invalid UTF-8, or an empty or dot segment.
    PathInvalid "path_invalid" BAD_REQUEST
        "the path has an empty or dot segment, or one that is not percent-encoded UTF-8";

    // The query, and names in the URL.
    /// A query parameter is not percent-encoded UTF-8, repeated, misplaced or out of range.
    QueryInvalid "query_invalid" BAD_REQUEST
        "a query parameter is repeated, not allowed here, or cannot be read";
    /// A stream was asked for with neither a room nor a user, in the query or by the token.
    RoomMissing "room_missing" BAD_REQUEST
        "a stream needs a room or a user";
    /// A room in the URL is not a room name.
    RoomInvalid "room_invalid" BAD_REQUEST
        "a room is 1 to 128 bytes of UTF-8 without control characters";
    /// A user in the URL or in `Tidegate-User` is not a user name.
    UserInvalid "user_invalid" BAD_REQUEST
        "a user is 1 to 128 bytes of UTF-8 without control characters";
    /// A stream was asked for with more rooms than one connection may join.
    RoomsTooMany "rooms_too_many" BAD_REQUEST
        "one stream takes at most 64 rooms";
    /// `history` is not a number.
    HistoryInvalid "history_invalid" BAD_REQUEST
        "history is a whole number of events, from 0";
    /// `heartbeat` is neither `id` nor `comment`.
    HeartbeatInvalid "heartbeat_invalid" BAD_REQUEST
        "heartbeat is id or comment";
    /// `poll` is not a number in its range.
    PollInvalid "poll_invalid" BAD_REQUEST
        "poll is a whole number of seconds, from 1 to 60";
    /// `limit` is not a number in its range.
    LimitInvalid "limit_invalid" BAD_REQUEST
        "limit is a whole number from 1 to 1000";
    /// `before` is not an event id.
    BeforeInvalid "before_invalid" BAD_REQUEST
        "before is the event id that the previous page named";

    // The body as a whole.
    /// The body is not UTF-8, not JSON, not an object or array of objects, or repeats a field.
    BodyMalformed "body_malformed" BAD_REQUEST
        "the body is not JSON of the expected form; see detail";
    /// The body is longer than its bound.
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE
        "the body is larger than this server takes";
    /// One event's data, or one line of a streamed body, is longer than its bound.
    EventTooLarge "event_too_large" PAYLOAD_TOO_LARGE
        "an event is larger than this server takes";
    /// `Content-Type` names a type that the server does not read.
    MediaTypeUnsupported "media_type_unsupported" UNSUPPORTED_MEDIA_TYPE
        "the body has to be application/json or application/x-ndjson in UTF-8";
    /// `Content-Encoding` names a compression.
    ContentEncodingUnsupported "content_encoding_unsupported" UNSUPPORTED_MEDIA_TYPE
        "the body has to come without a content encoding";

    // One event.
    /// The event has a field with an unknown name.
    FieldUnknown "field_unknown" UNPROCESSABLE_ENTITY
        "an event has only room, user, all, event, data, id, exclude, require, key, version, store and once";
    /// The event has no target.
    TargetMissing "target_missing" UNPROCESSABLE_ENTITY
        "an event needs one of room, user and all";
    /// The event has more than one target.
    TargetAmbiguous "target_ambiguous" UNPROCESSABLE_ENTITY
        "an event takes only one of room, user and all";
    /// `room` is not a room name.
    TargetRoomInvalid "target_room_invalid" UNPROCESSABLE_ENTITY
        "room is a string of 1 to 128 bytes of UTF-8 without control characters";
    /// `user` is not a user name.
    TargetUserInvalid "target_user_invalid" UNPROCESSABLE_ENTITY
        "user is a string of 1 to 128 bytes of UTF-8 without control characters";
    /// `all` is present and not `true`.
    TargetAllInvalid "target_all_invalid" UNPROCESSABLE_ENTITY
        "all is true or left out";
    /// The event has no `data`.
    DataMissing "data_missing" UNPROCESSABLE_ENTITY
        "an event needs data, which may be any JSON value";
    /// `event` is not an event name.
    EventNameInvalid "event_name_invalid" UNPROCESSABLE_ENTITY
        "event is a string of 1 to 128 bytes of UTF-8 without control characters";
    /// `event` is a name the server itself uses.
    EventNameReserved "event_name_reserved" UNPROCESSABLE_ENTITY
        "this event name is reserved for the server or the browser";
    /// `id` is not an event id.
    EventIdInvalid "event_id_invalid" UNPROCESSABLE_ENTITY
        "id is a string of 1 to 127 bytes of A-Z a-z 0-9 . _ ~ -";
    /// `id` has the form of the server's own ids. A subscriber that resumes with it would start at a wrong position.
    EventIdReserved "event_id_reserved" UNPROCESSABLE_ENTITY
        "an id of six characters a-z 0-9, a hyphen and a number is reserved for the server";
    /// Another event has this `id`.
    EventIdRepeated "event_id_repeated" CONFLICT
        "an event with this id was published before; an id is for one event only";
    /// `exclude` is not a user name.
    ExcludeInvalid "exclude_invalid" UNPROCESSABLE_ENTITY
        "exclude is a user: a string of 1 to 128 bytes of UTF-8 without control characters";
    /// `require` is present, but this server has nothing that grants permissions. Ignoring it would show the event to
    /// every subscriber.
    RequireUnsupported "require_unsupported" UNPROCESSABLE_ENTITY
        "require needs tokens, API keys or a callback, and this server has none set up";
    /// `require` is not the name of a permission.
    RequireInvalid "require_invalid" UNPROCESSABLE_ENTITY
        "require is a permission: a string of 1 to 64 bytes of A-Z a-z 0-9 . _ -";
    /// `key` is not the name of something.
    KeyInvalid "key_invalid" UNPROCESSABLE_ENTITY
        "key is a string of 1 to 128 bytes of UTF-8 without control characters";
    /// `version` is not a whole number.
    VersionInvalid "version_invalid" UNPROCESSABLE_ENTITY
        "version is a whole number from 0 to 18446744073709551615";
    /// There is a `version` without a `key`.
    VersionWithoutKey "version_without_key" UNPROCESSABLE_ENTITY
        "version needs a key, which says what it is the version of";
    /// `store` is not a Boolean.
    StoreInvalid "store_invalid" UNPROCESSABLE_ENTITY
        "store is true or false";
    /// `once` is not an idempotency key.
    OnceInvalid "once_invalid" UNPROCESSABLE_ENTITY
        "once is a string of 1 to 128 bytes of UTF-8 without control characters";
    /// The array holds no events.
    BatchEmpty "batch_empty" UNPROCESSABLE_ENTITY
        "a batch needs at least one event";
    /// The array holds more events than may be taken at once.
    BatchTooLarge "batch_too_large" PAYLOAD_TOO_LARGE
        "a batch has at most 4096 events; a stream of lines (application/x-ndjson) may have any number";

    // What a room takes, and what was sent before.
    /// The room takes events of API keys only.
    PublishKeysOnly "publish_keys_only" FORBIDDEN
        "only API keys may publish to this room";
    /// The room takes events of other names only.
    EventNameForbidden "event_name_forbidden" UNPROCESSABLE_ENTITY
        "this room takes no events of this name";
    /// The user may not publish to the room for now.
    Muted "muted" FORBIDDEN
        "the user is muted in this room";
    /// The application refuses the event (`publish_callback`); its own code and title may stand in their place.
    PublishRefused "publish_refused" FORBIDDEN
        "the application refuses this event";
    /// The application did not say whether the event may be published.
    CallbackUnavailable "callback_unavailable" SERVICE_UNAVAILABLE
        "the application cannot be asked about this event at the moment; see Retry-After";
    /// The user published equal data to the room a moment ago.
    Repeated "repeated" CONFLICT
        "the user published the same to this room a moment ago";
    /// The header `Idempotency-Key` is no key, or has no place in this request.
    IdempotencyKeyInvalid "idempotency_key_invalid" UNPROCESSABLE_ENTITY
        "Idempotency-Key is one header of 1 to 128 bytes of UTF-8 without control characters";
    /// The idempotency key was used for something else.
    IdempotencyMismatch "idempotency_mismatch" UNPROCESSABLE_ENTITY
        "this idempotency key was used for something else";
    /// The first publish with this idempotency key is not decided yet.
    IdempotencyBusy "idempotency_busy" CONFLICT
        "the first publish with this idempotency key has no answer yet";

    // The request as a message.
    /// The request is not HTTP/1.
    RequestMalformed "request_malformed" BAD_REQUEST
        "the request is not well-formed HTTP/1.1";
    /// `Host` is missing, repeated or invalid.
    HostInvalid "host_invalid" BAD_REQUEST
        "a request names the host it is for, once, and with an optional port";
    /// The request line and headers are longer than their bound.
    HeadTooLarge "head_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE
        "the request line and headers are larger than this server takes";
    /// The head or the body did not arrive in time.
    RequestTimeout "request_timeout" REQUEST_TIMEOUT
        "the request did not arrive in time";

    // Refusals of well-formed requests.
    /// There is no token or key, or it is not valid. The answer does not say why.
    Unauthorized "unauthorized" UNAUTHORIZED
        "this needs a valid token or key";
    /// The token or key is valid, but does not allow this.
    Forbidden "forbidden" FORBIDDEN
        "the token or key does not allow this";
    /// There are two tokens, which may be those of two users.
    TokenAmbiguous "token_ambiguous" BAD_REQUEST
        "a request has one token: in Authorization, in a cookie or in the query";
    /// The server cannot check the token, the key or the permission now.
    AuthUnavailable "auth_unavailable" SERVICE_UNAVAILABLE
        "the server cannot check permissions at the moment; see Retry-After";
    /// The user has no connection with the key that was to be refreshed.
    ConnectionUnknown "connection_unknown" NOT_FOUND
        "the user has no such connection";
    /// The body of a revocation does not name one user or one token.
    RevocationInvalid "revocation_invalid" UNPROCESSABLE_ENTITY
        "a revocation names one of user and token, which is the jti of a token: 1 to 256 bytes";
    /// The body does not list users.
    UsersInvalid "users_invalid" UNPROCESSABLE_ENTITY
        "users is a list of at most 1000 users, each 1 to 128 bytes of UTF-8 without control characters";
    /// The room has no presence by its policy.
    PresenceOff "presence_off" NOT_FOUND
        "this room does not say who is present";
    /// The user is not a member of the room.
    NotPresent "not_present" NOT_FOUND
        "the user is not present in this room";
    /// The body does not have data that every subscriber can read, or no user is named.
    PresenceInvalid "presence_invalid" UNPROCESSABLE_ENTITY
        "presence takes a user and data, which may be any JSON value that all readers can take";
    /// The data has too many bytes.
    PresenceTooLarge "presence_too_large" PAYLOAD_TOO_LARGE
        "the data of a member has at most 1024 bytes of JSON";
    /// The list of revocations is full.
    RevocationsFull "revocations_full" SERVICE_UNAVAILABLE
        "no more revocations can be remembered; see Retry-After";
    /// The list of users told to stay away is full. No connection was closed.
    StayAwayFull "stay_away_full" SERVICE_UNAVAILABLE
        "no more users can be told to stay away, so this one stays connected; see Retry-After";
    /// The settings list the rooms that there are, and this is none of them.
    RoomUnknown "room_unknown" FORBIDDEN
        "this server has only the rooms that its settings list";
    /// The list of muted users is full.
    MutesFull "mutes_full" SERVICE_UNAVAILABLE
        "no more users can be muted, so this one is not; see Retry-After";
    /// A page of an origin that is not allowed tried to change something, or sent any request where such pages are
    /// refused.
    OriginForbidden "origin_forbidden" FORBIDDEN
        "pages of this origin may not do this";
    /// The client's address is blocked.
    AddressForbidden "address_forbidden" FORBIDDEN
        "clients at this address are not served";
    /// A header that every request has to have is missing or wrong.
    HeaderRequired "header_required" FORBIDDEN
        "the request lacks a header that this server requires";
    /// The client's `User-Agent` is blocked.
    UserAgentForbidden "user_agent_forbidden" FORBIDDEN
        "programs with this User-Agent are not served";
    /// `Host` is not a name of this server.
    HostForbidden "host_forbidden" FORBIDDEN
        "this Host is not a name of this server; its operator can add it to allowed_hosts";
    /// The publish rate is used up.
    RateLimited "rate_limited" TOO_MANY_REQUESTS
        "too many requests; see Retry-After";
    /// The server has all the connections it can hold.
    Full "full" SERVICE_UNAVAILABLE
        "the server is full; see Retry-After";
    /// The server is short of memory.
    MemoryExhausted "memory_exhausted" SERVICE_UNAVAILABLE
        "the server is short of memory; see Retry-After";
    /// There is no space on the disk of the order.
    DiskFull "disk_full" INSUFFICIENT_STORAGE
        "the disk of the order is full, so nothing was published";
    /// The order cannot be written, or not be reached.
    OrderUnavailable "order_unavailable" SERVICE_UNAVAILABLE
        "the order cannot be written at the moment; send this again with its Idempotency-Key";
    /// Nobody knows whether the order has it.
    PublishUnknown "publish_unknown" SERVICE_UNAVAILABLE
        "the order did not answer in time, so this may be published or not; send it again with its Idempotency-Key";
    /// Bodies of requests and answers hold the most bytes allowed.
    BuffersFull "buffers_full" SERVICE_UNAVAILABLE
        "the buffers for requests and answers are full; see Retry-After";
    /// The most requests allowed are waiting.
    WaitingFull "waiting_full" SERVICE_UNAVAILABLE
        "too many requests are waiting; see Retry-After";
    /// The server is shutting down.
    Draining "draining" SERVICE_UNAVAILABLE
        "the server is shutting down; see Retry-After";
    /// The user has the most connections allowed for one user.
    UserConnectionsExceeded "user_connections_exceeded" SERVICE_UNAVAILABLE
        "this user has too many connections; see Retry-After";
    /// The address has the most connections allowed for one address.
    AddressConnectionsExceeded "address_connections_exceeded" SERVICE_UNAVAILABLE
        "this address has too many connections; see Retry-After";
    /// The room has the most connections allowed for it.
    RoomFull "room_full" SERVICE_UNAVAILABLE
        "the room has all the listeners it may have; see Retry-After";
    /// The most pages allowed show the dashboard.
    DashboardFull "dashboard_full" SERVICE_UNAVAILABLE
        "too many pages show the dashboard already; see Retry-After";
}

impl Code {
    /// Whether the same request may succeed later. Then the answer has `Retry-After`.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clients rely on, written a second time on purpose.
    const PROMISED: &[(Code, &str, u16)] = &[
        (Code::NotFound, "not_found", 404),
        (Code::MethodNotAllowed, "method_not_allowed", 405),
        (Code::PathInvalid, "path_invalid", 400),
        (Code::QueryInvalid, "query_invalid", 400),
        (Code::RoomMissing, "room_missing", 400),
        (Code::RoomInvalid, "room_invalid", 400),
        (Code::UserInvalid, "user_invalid", 400),
        (Code::RoomsTooMany, "rooms_too_many", 400),
        (Code::HistoryInvalid, "history_invalid", 400),
        (Code::HeartbeatInvalid, "heartbeat_invalid", 400),
        (Code::PollInvalid, "poll_invalid", 400),
        (Code::LimitInvalid, "limit_invalid", 400),
        (Code::BeforeInvalid, "before_invalid", 400),
        (Code::BodyMalformed, "body_malformed", 400),
        (Code::BodyTooLarge, "body_too_large", 413),
        (Code::EventTooLarge, "event_too_large", 413),
        (Code::MediaTypeUnsupported, "media_type_unsupported", 415),
        (Code::ContentEncodingUnsupported, "content_encoding_unsupported", 415),
        (Code::FieldUnknown, "field_unknown", 422),
        (Code::TargetMissing, "target_missing", 422),
        (Code::TargetAmbiguous, "target_ambiguous", 422),
        (Code::TargetRoomInvalid, "target_room_invalid", 422),
        (Code::TargetUserInvalid, "target_user_invalid", 422),
        (Code::TargetAllInvalid, "target_all_invalid", 422),
        (Code::DataMissing, "data_missing", 422),
        (Code::EventNameInvalid, "event_name_invalid", 422),
        (Code::EventNameReserved, "event_name_reserved", 422),
        (Code::EventIdInvalid, "event_id_invalid", 422),
        (Code::EventIdReserved, "event_id_reserved", 422),
        (Code::EventIdRepeated, "event_id_repeated", 409),
        (Code::ExcludeInvalid, "exclude_invalid", 422),
        (Code::RequireUnsupported, "require_unsupported", 422),
        (Code::RequireInvalid, "require_invalid", 422),
        (Code::KeyInvalid, "key_invalid", 422),
        (Code::VersionInvalid, "version_invalid", 422),
        (Code::VersionWithoutKey, "version_without_key", 422),
        (Code::StoreInvalid, "store_invalid", 422),
        (Code::OnceInvalid, "once_invalid", 422),
        (Code::BatchEmpty, "batch_empty", 422),
        (Code::BatchTooLarge, "batch_too_large", 413),
        (Code::PublishKeysOnly, "publish_keys_only", 403),
        (Code::EventNameForbidden, "event_name_forbidden", 422),
        (Code::Muted, "muted", 403),
        (Code::PublishRefused, "publish_refused", 403),
        (Code::CallbackUnavailable, "callback_unavailable", 503),
        (Code::Repeated, "repeated", 409),
        (Code::IdempotencyKeyInvalid, "idempotency_key_invalid", 422),
        (Code::IdempotencyMismatch, "idempotency_mismatch", 422),
        (Code::IdempotencyBusy, "idempotency_busy", 409),
        (Code::RequestMalformed, "request_malformed", 400),
        (Code::HostInvalid, "host_invalid", 400),
        (Code::HeadTooLarge, "head_too_large", 431),
        (Code::RequestTimeout, "request_timeout", 408),
        (Code::Unauthorized, "unauthorized", 401),
        (Code::Forbidden, "forbidden", 403),
        (Code::TokenAmbiguous, "token_ambiguous", 400),
        (Code::AuthUnavailable, "auth_unavailable", 503),
        (Code::ConnectionUnknown, "connection_unknown", 404),
        (Code::RevocationInvalid, "revocation_invalid", 422),
        (Code::UsersInvalid, "users_invalid", 422),
        (Code::PresenceOff, "presence_off", 404),
        (Code::NotPresent, "not_present", 404),
        (Code::PresenceInvalid, "presence_invalid", 422),
        (Code::PresenceTooLarge, "presence_too_large", 413),
        (Code::RevocationsFull, "revocations_full", 503),
        (Code::StayAwayFull, "stay_away_full", 503),
        (Code::RoomUnknown, "room_unknown", 403),
        (Code::MutesFull, "mutes_full", 503),
        (Code::OriginForbidden, "origin_forbidden", 403),
        (Code::AddressForbidden, "address_forbidden", 403),
        (Code::HeaderRequired, "header_required", 403),
        (Code::UserAgentForbidden, "user_agent_forbidden", 403),
        (Code::HostForbidden, "host_forbidden", 403),
        (Code::RateLimited, "rate_limited", 429),
        (Code::Full, "full", 503),
        (Code::MemoryExhausted, "memory_exhausted", 503),
        (Code::DiskFull, "disk_full", 507),
        (Code::OrderUnavailable, "order_unavailable", 503),
        (Code::PublishUnknown, "publish_unknown", 503),
        (Code::BuffersFull, "buffers_full", 503),
        (Code::WaitingFull, "waiting_full", 503),
        (Code::Draining, "draining", 503),
        (Code::UserConnectionsExceeded, "user_connections_exceeded", 503),
        (Code::AddressConnectionsExceeded, "address_connections_exceeded", 503),
        (Code::RoomFull, "room_full", 503),
        (Code::DashboardFull, "dashboard_full", 503),
    ];

    #[test]
    fn codes_and_statuses_are_as_promised() {
        let codes: Vec<Code> = PROMISED.iter().map(|&(code, ..)| code).collect();
        assert_eq!(codes, Code::ALL);
        for &(code, text, status) in PROMISED {
            assert_eq!((code.as_str(), code.status().as_u16()), (text, status), "{code:?}");
        }
    }
}
