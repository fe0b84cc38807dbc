//! Runs programs. The only place of the agent that does.
