//! The closed list of causes (`docs/interface.md`): why a pairing failed, with its exit code, a text and a next step.

/// Declares the causes with exit code, text and hint, so that none can lack one.
macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $exit:literal, $text:literal, $hint:literal;)*) => {
        /// Why something did not work. The names are a promise to scripts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Cause {
            $($(#[$doc])* $variant,)*
        }

        impl Cause {
            /// Every cause.
            pub const ALL: &'static [Cause] = &[$(Cause::$variant,)*];

            /// The name in events and reports.
            pub fn name(self) -> &'static str {
                match self { $(Cause::$variant => $name,)* }
            }

            /// The exit code of a command that ends with it.
            pub fn exit(self) -> u8 {
                match self { $(Cause::$variant => $exit,)* }
            }

            /// What happened, for people.
            pub fn text(self) -> &'static str {
                match self { $(Cause::$variant => $text,)* }
            }

            /// What to do next, for people.
            pub fn hint(self) -> &'static str {
                match self { $(Cause::$variant => $hint,)* }
            }
        }
    };
}

causes! {
    /// A mistake of ours.
    Internal, "internal", 1, "something went wrong inside this program",
        "look at the log of this instance and report it";
    /// A command that makes no sense.
    Usage, "usage", 2, "this command cannot be carried out as given", "see --help";
    /// The code cannot be right.
    CodeMalformed, "code_malformed", 3, "this cannot be a code",
        "check the words against the other screen; nothing was sent";
    /// Nobody found under this code.
    NotFound, "not_found", 4, "nobody was found under this code",
        "check that the other device still shows it and that both use the same bootstrap nodes";
    /// No DHT node known, or none answers.
    NoBootstrap, "no_bootstrap", 4, "no node of the rendezvous network answers",
        "name a running node with --bootstrap (see `handfast serve`), or check your connection to it";
    /// No usable network at all.
    NoNetwork, "no_network", 4, "this device has no network", "connect to a network and try again";
    /// Multicast does not pass on this network.
    MulticastBlocked, "multicast_blocked", 4, "this network does not let devices find each other",
        "scan the QR, or use a bootstrap node";
    /// The life of the code has ended.
    CodeExpired, "code_expired", 5, "the life of this code has ended", "make a new code";
    /// Somebody used the code.
    CodeUsed, "code_used", 5, "this code has been used",
        "make a new code; `handfast devices` on the device that showed it names who used it: if that is nobody of yours, \
         start that device with a new home (`--home`) until it can be unpaired";
    /// A person said no.
    Rejected, "rejected", 6, "the pairing was declined",
        "make a new code to try again; if it was declined over there, ask the other person first";
    /// A person withdrew.
    Cancelled, "cancelled", 6, "the pairing was cancelled", "make a new code if you want to try again";
    /// No proof of the code or key.
    AuthenticationFailed, "authentication_failed", 7, "the other side could not prove the code, or the two devices did not show the same emoji",
        "check the words; if they are right, somebody may be interfering: try another network";
    /// The code is burned.
    TooManyAttempts, "too_many_attempts", 7, "too many wrong proofs were tried under this code",
        "make a new code and show it to the right person only";
    /// Another transport key than the QR names.
    WrongDevice, "wrong_device", 7, "another device answered than the one that shows this code",
        "scan the code again from the right screen";
    /// Found, but no connection.
    Unreachable, "unreachable", 8, "the other device was found but cannot be reached",
        "check that it is still running and that a firewall lets it be reached";
    /// A firewall drops what comes in.
    InboundFirewall, "inbound_firewall", 8, "the other device is there, but lets nothing in",
        "allow the program's port in the firewall of the other device; if it has none, the program there may be stuck or \
         its computer asleep: start it again";
    /// The access point isolates its clients.
    ApIsolation, "ap_isolation", 8, "this network keeps its devices apart",
        "use another network, or turn client isolation off";
    /// The devices are in different networks.
    DifferentSubnet, "different_subnet", 8, "the devices are in different networks",
        "bring both into one network, or use a bootstrap node";
    /// A VPN takes the traffic.
    VpnDefaultRoute, "vpn_default_route", 8, "a VPN takes the traffic meant for the local network",
        "turn the VPN off, or exclude the local network from it";
    /// UDP does not pass.
    UdpBlocked, "udp_blocked", 8, "this network blocks UDP", "use another network";
    /// Connected, then no answer.
    TimedOut, "timed_out", 9, "the other side did not answer in time", "try again while both people are at hand";
    /// Connected, then cut.
    ConnectionLost, "connection_lost", 9, "the connection was lost before both sides had stored the pairing",
        "look at `devices`: what is pending finishes by itself when the two meet; else make a new code";
    /// The instance is not running.
    NotRunning, "not_running", 10, "this instance is not running", "start it with `handfast start`";
    /// The instance is running already.
    AlreadyRunning, "already_running", 10, "this instance is running already",
        "use it, or stop it with `handfast stop`";
    /// The store failed.
    Storage, "storage", 11, "the store of this instance could not be read or written",
        "check the free space and the permissions of its folder";
    /// No common version.
    VersionMismatch, "version_mismatch", 12, "the two programs speak different versions",
        "update the older one";
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
