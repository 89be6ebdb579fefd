//! The limits and waits of sessions and links, each with its reason (protocol, section 12). Sizes of bytes on the wire
//! stand beside their parsers.

use std::time::Duration;

/// Shortest life of a code a person can choose.
pub const MIN_TTL: Duration = Duration::from_secs(5);
/// Longest life of a code: a secret on a screen should not outlive the meeting.
pub const MAX_TTL: Duration = Duration::from_secs(3600);
/// Life of a code when nothing is said: time to walk to the other device and to type twelve words twice.
pub const DEFAULT_TTL: Duration = Duration::from_secs(600);
/// Keys of an ended code are kept this long, only to answer "over": the longest life of a record in the DHT.
pub const KEEP_ENDED: Duration = Duration::from_secs(900);
/// Live sessions of a device: more codes on one screen serve nobody.
pub const MAX_SESSIONS: usize = 8;
/// Ended sessions remembered for `pair status` and for "over" answers; the oldest go first.
pub const MAX_ENDED: usize = 64;
/// Failed proofs after which a code is burned.
pub const MAX_FAILED_PROOFS: u8 = 3;
/// Streams behind a valid tag that wait for H1, for one code; the protocol allows 32 handshakes a code.
pub const MAX_HALF_OPEN: usize = 32;
/// Streams whose first frame is due, and those of one subscriber among them: nothing is known of who opened them, so the
/// oldest goes first (protocol, section 12).
pub const MAX_FRESH: usize = 32;
/// See [`MAX_FRESH`]: a program needs one, some more may share its address.
pub const MAX_FRESH_PER_SUBSCRIBER: usize = 4;
/// Handshakes without a valid tag that are heard each second, after a burst of [`STRANGER_BURST`]. People who enter an
/// old code are slower than that.
pub const STRANGERS_PER_SECOND: u32 = 5;
/// See [`STRANGERS_PER_SECOND`].
pub const STRANGER_BURST: u32 = 20;

/// From P1 to H1, and from H2 to S3 or H3: both are sent at once by a program that means it.
pub const HANDSHAKE_STEP: Duration = Duration::from_secs(10);
/// Without a code, whoever was told to go on and sends no S3 within this long makes room for another: S3 is sent in the
/// same breath, and nothing was proven before it.
pub const NEARBY_S3: Duration = Duration::from_secs(1);
/// A person's time to answer a question or a comparison; silence is No.
pub const QUESTION: Duration = Duration::from_secs(120);
/// What of [`PEER_ANSWER`] is for the way: how far apart the two sides' times for one question may begin and end.
pub const ANSWER_WAY: Duration = Duration::from_secs(10);
/// For this long after a question ended, the next one must be answered by the name of its session: who says only "yes" may
/// still mean the one before, which was on the screen while the command was typed.
pub const QUESTION_SETTLES: Duration = Duration::from_secs(10);
/// From S3 to H3, from H3 to H4 and from H4 to H5: the other person's question and the way of the answer.
pub const PEER_ANSWER: Duration = Duration::from_secs(130);
/// Aborted comparisons of one peer within [`STRIKE_WINDOW`] after which it is refused for [`STRIKE_REFUSAL`].
pub const MAX_STRIKES: usize = 3;
/// The same for one address, whatever its devices call themselves.
pub const MAX_STRIKES_OF_ADDRESS: usize = 6;
/// See [`MAX_STRIKES`].
pub const STRIKE_WINDOW: Duration = Duration::from_secs(600);
/// See [`MAX_STRIKES`].
pub const STRIKE_REFUSAL: Duration = Duration::from_secs(600);
/// From H5 to H6: one durable write on the other side.
pub const CONFIRMATION: Duration = Duration::from_secs(15);
/// A handshake whose connection was lost can be resumed this long.
pub const RESUME: Duration = Duration::from_secs(60);
/// An initiator that is lost in the middle of a handshake is looked up at once and then after pauses that double from the
/// first to the second: one that moves publishes anew within a second, and a lost one is given up after [`RESUME`].
pub const REFIND_MIN: Duration = Duration::from_millis(500);
/// See [`REFIND_MIN`].
pub const REFIND_MAX: Duration = Duration::from_secs(4);
/// A joiner that stored a pending pairing looks for the initiator this long before the session ends.
pub const HELLO_RETRY: Duration = Duration::from_secs(30);
/// Pause before a handshake that lost its connection dials again: doubled each time up to [`RESUME_REDIAL_MAX`], which
/// keeps it at ten tries an address and minute.
pub const RESUME_REDIAL_MIN: Duration = Duration::from_secs(1);
/// See [`RESUME_REDIAL_MIN`].
pub const RESUME_REDIAL_MAX: Duration = Duration::from_secs(8);
/// After so many refused dials in a row the other program is gone, not the network: its next run has another transport
/// key and knows nothing of the handshake.
pub const REFUSED_DIALS: u32 = 2;
/// How much longer QUIC may take after TCP was refused at the same device.
pub const AFTER_REFUSAL: Duration = Duration::from_secs(1);

/// A record is published anew this often while a session is open.
pub const REPUBLISH: Duration = Duration::from_secs(120);
/// Longest wait before publishing is tried again after no node stored the record.
pub const PUBLISH_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// After how long it is said that no node has taken a new code's record yet. A device that has just been started needs some
/// round trips to connect to one.
pub const NO_NODE_YET: Duration = Duration::from_secs(2);
/// The second tombstone follows the first after this long.
pub const TOMBSTONE_REPEAT: Duration = Duration::from_secs(30);

/// Nobody found: the joiner stops after this long.
pub const FIND: Duration = Duration::from_secs(30);
/// No node of the DHT answered anything: the joiner stops after this long. A look-up ends within 10 s and says then who
/// answered.
pub const FIND_WITHOUT_DHT: Duration = Duration::from_secs(12);
/// When the joiner looks up, in milliseconds after its start; then every [`LOOK_UP_EVERY`]. The first ones are close
/// together because a code that has just been shown is in the DHT a few round trips later.
pub const LOOK_UPS_MS: [u64; 7] = [0, 250, 500, 1_000, 2_000, 4_000, 8_000];
/// See [`LOOK_UPS_MS`].
pub const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// Found, but no connection: the joiner stops after this long.
pub const CONNECT: Duration = Duration::from_secs(12);
/// Pause between two dials of a candidate: doubled each time up to [`REDIAL_MAX`].
pub const REDIAL_MIN: Duration = Duration::from_millis(500);
/// See [`REDIAL_MIN`].
pub const REDIAL_MAX: Duration = Duration::from_secs(2);
/// A candidate that closes before a valid H2 is tried this often in all: it may be busy.
pub const UNPROVEN_TRIES: u32 = 3;
/// An initiator that says "busy" is asked again after this long.
pub const BUSY_RETRY: Duration = Duration::from_secs(2);
/// An initiator that stays busy this long has used the code for somebody else.
pub const BUSY: Duration = Duration::from_secs(30);
/// One that was busy and is not there any more has used the code, too: it is asked for this long after it last answered.
pub const BUSY_GONE: Duration = Duration::from_secs(5);
/// Addresses on one link with us are tried this much before the others of the same device.
pub const NEAR_FIRST: Duration = Duration::from_millis(300);
/// Relays are tried this much after the addresses of the same device: a direct path costs nobody else anything and mostly
/// stands by then, and where there is none the relay's is there long before the first timeout.
pub const DIRECT_FIRST: Duration = Duration::from_millis(200);
/// A connection through a relay that carries no answer to the first message for this long is given up for another relay, if
/// there is one: several round trips across the world, and much less than a search may take.
pub const RELAY_STALL: Duration = Duration::from_secs(3);
/// For this long a handshake that has lost its relay tries another one alone.
pub const OTHER_RELAY_FIRST: Duration = Duration::from_secs(2);
/// A second way to a device with which a handshake runs already waits this long before it is tried.
pub const TWIN: Duration = Duration::from_secs(1);
/// What is known to be wrong is said this long after a search began, while it goes on.
pub const TROUBLE: Duration = Duration::from_secs(6);
/// By then the interfaces of a device that has just started are known.
pub const SURROUNDINGS: Duration = Duration::from_secs(1);
/// An initiator that heard a joiner on the local network waits this long for it before it connects to it itself: most
/// joiners are there long before.
pub const REVERSE: Duration = Duration::from_millis(600);
/// How often it connects to one joiner, with this pause in between.
pub const REVERSE_TRIES: u8 = 3;
/// See [`REVERSE_TRIES`].
pub const REVERSE_PAUSE: Duration = Duration::from_secs(5);
/// Joiners that an initiator remembers for that.
pub const MAX_REVERSE: usize = 4;
/// Candidates a joiner tries in all.
pub const MAX_CANDIDATES: usize = 8;
/// Connections that others opened to a joiner and on which it tries the code: from where a candidate is.
pub const MAX_CALLERS: usize = 2;
/// One of them that has proven nothing after this long makes room for another: the proof comes at once.
pub const CALLER_TURN: Duration = Duration::from_secs(2);
/// And so long after [`CONNECT`] is over the search still waits for one that came just before.
pub const CALLER_LATE: Duration = Duration::from_secs(2);
/// Dials of one candidate, or of one paired device, at the same time: the first, and one more each time that a newer record
/// names other ways to it.
pub const DIALS_OF_CANDIDATE: usize = 3;
/// Candidates tried at the same time.
pub const PARALLEL_CANDIDATES: usize = 3;
/// Candidates tried through relays at the same time, beside [`PARALLEL_CANDIDATES`]: a code has one initiator, whose relays
/// are one candidate.
pub const PARALLEL_RELAYED: usize = 1;

/// A pending pairing is deleted after this long.
pub const PENDING: Duration = Duration::from_secs(24 * 3600);
/// Paired devices.
pub const MAX_PAIRINGS: usize = 256;
/// Tombstones of pairings.
pub const MAX_TOMBSTONES: usize = 1024;
/// A hello must end within this long.
pub const HELLO: Duration = Duration::from_secs(10);
/// A hello that is refused closes this long after the frame came, however far it got: a stranger learns nothing.
pub const HELLO_REFUSAL: Duration = Duration::from_millis(50);
/// Hellos in progress that others opened; the oldest goes first.
pub const MAX_INBOUND_HELLOS: usize = 32;
/// The presence record is published this often.
pub const PRESENCE_EVERY: Duration = Duration::from_secs(600);
/// Shortest pause between two searches for a peer.
pub const SEEK_MIN: Duration = Duration::from_secs(2);
/// Longest pause between two searches for a peer that is away (± 25 %).
pub const SEEK_MAX: Duration = Duration::from_secs(300);
/// DHT look-ups of a device per minute. Codes come first: a person waits for each, and their own schedule bounds them
/// ([`LOOK_UPS_MS`], [`MAX_SESSIONS`]); what they use is not left for presence.
pub const DHT_QUERIES_PER_MINUTE: u32 = 30;
/// Those of them that presence may use.
pub const PRESENCE_QUERIES_PER_MINUTE: u32 = 24;
/// Length of a presence period: a pair is not traceable for longer than a day.
pub const PERIOD_SECONDS: u64 = 86_400;
/// Addresses remembered for a peer.
pub const MAX_REMEMBERED: usize = 6;
/// Direct connections remembered in case a relayed link with the same transport key follows. Most are to nodes of the DHT,
/// and soon closed; the oldest goes first, and what is forgotten costs a faster path, not the link.
pub const MAX_DIRECT: usize = 256;
/// A relayed connection beside a better one is given up after this long: the better one has held by then, and what was under
/// way has arrived.
pub const SPARE_RELAY: Duration = Duration::from_secs(5);
/// Pauses before a link that has stayed on a relay tries again to get a direct connection, each ± 25 %; the last one is
/// repeated. At first both sides may just be learning where they are seen; later only a change helps, which is known at once
/// on the side that it happens to.
pub const PUNCH_AGAIN: [Duration; 3] = [Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)];
/// A peer that has just been paired with is a link by then, a hello being two round trips; else it is looked for.
pub const GREETED: Duration = Duration::from_secs(1);
/// A connection that there is reason to doubt must have answered after this long: several round trips across the world.
pub const DOUBT: Duration = Duration::from_secs(2);
/// Pings waiting for their answer, of one device.
pub const MAX_PINGS: usize = 64;
/// Pings of one peer that are being answered: those on the connections that it may have, with some room.
pub const MAX_PING_STREAMS: usize = 16;
/// Connections of one peer on which it has proven itself: two that crossed, one through a relay, and one after a move.
pub const MAX_CONNECTIONS_OF_PEER: usize = 4;
/// A ping without answer is lost after this long.
pub const PING: Duration = Duration::from_secs(10);
