//! The deployment state machine: what a device does next in one deployment, and nothing else.
//!
//! Owns the durable [`Record`] of a deployment, the order of every call (the reference client's
//! chains, `agent-behaviour` 3.1-3.4), the way back after a failure and the way on after a restart.
//! It has no clock, no files, no network and no tasks: [`begin`], [`step`] and [`recover`] are pure,
//! so the model test in `tests/` can cut the power between any two effects.
//!
//! # The contract with the runner
//!
//! Each function returns the record as it now is and a list of effects. The runner executes them in
//! order. All but the last are silent: [`Effect::Save`] and [`Effect::Settle`] make the *returned* record
//! durable before the runner goes on (when that fails it stops the list and answers
//! [`Event::SaveFailed`]), [`Effect::DropToken`] cannot fail. The last effect acts, and its outcome is the
//! [`Event`] for the next [`step`]. A list without an acting effect is the last one: the deployment is over, or, when the
//! record's [`Record::stopped`] is set, the agent was asked to stop and may exit.
//!
//! # The invariant
//!
//! No effect that acts on the device runs before a durable record names its [`Phase`]. A restart
//! therefore finds in the record the last phase of which any effect may have begun, and [`recover`] only has to
//! know, per phase, how to go on from "some of it may have happened". Every effect is safe to repeat.
//!
//! # Differences from the reference client, on purpose
//!
//! - The verdict is part of the record, so a power cut in Cleanup after a commit still ends in `success`.
//! - The final status is queued in the same atomic save that clears the record; it is sent until the
//!   server has answered, across restarts.
//! - The decision to give up is durable before any Error script runs ([`Phase::Unwind`]).
//! - A failed save right after ArtifactCommit rolls back: a commit that no record knows of would be
//!   undone by the next restart, after the server had been told `success`.
//! - When ArtifactCommit_Leave fails, the new provides are stored with the inconsistent name: the new
//!   software is what runs.
//! - A clean stop while downloading or while waiting for the server resumes instead of failing.
//! - A download that has a checkpoint goes on after a restart, and the same deployment with it.
//! - A deployment may be held before installation, reboot and commit; a hold survives restarts.
//! - What a root file system's deployment left is told from the running slot ([`truth`]), not believed.
//! - A record whose state is unknown leads to a rollback, never to an unfinished deployment.

mod effect;
mod machine;
mod record;
mod step;
mod truth;

pub use effect::{
    Action, Adoption, Call, Conclusion, Effect, Event, Gate, Insistence, ScriptState,
};
pub use machine::{Found, begin, recover, step};
pub use record::{
    Facts, HELD_RESTARTS_MAX, INCONSISTENT_SUFFIX, REASON_CHARS_MAX, Reboot, Record, SAVES_MAX,
    STALLS_MAX, Undo, Verdict,
};
pub use step::{Phase, Step};
pub use truth::{Finding, Pair, Sight, Software, truth};
