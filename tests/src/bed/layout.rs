//! What a bed is made of.

/// What a bed is made of, beyond the usual.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// How many hosts.
    pub hosts: usize,
    /// How health is measured.
    pub timing: Timing,
    /// Each agent dials a relay of its own.
    pub relays: bool,
    /// Every machine has a clock that can be set, where that can be had.
    pub clocks: bool,
    /// Lines of the agents' `[retention]`.
    pub retention: &'static str,
}

/// How health is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Timing {
    /// Five times a second, and one measurement is enough: what is waited for comes soon.
    #[default]
    Quick,
    /// As shipped: the configuration says nothing.
    Shipped,
    /// Seldom, so that what was last measured is of before a change.
    Lagging,
}

impl Timing {
    pub(super) fn lines(self) -> &'static str {
        match self {
            Self::Quick => "interval = \"200ms\"\ntimeout = \"2s\"\nhealthy_after = 1\nunhealthy_after = 1",
            Self::Shipped => "",
            Self::Lagging => "interval = \"4s\"\ntimeout = \"2s\"\nhealthy_after = 1\nunhealthy_after = 2",
        }
    }
}
