//! Why the program ends.

use std::process::ExitCode;

/// Exit codes of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The thing did not work.
    Failure,
    /// The arguments do not fit together.
    Usage,
    /// Not logged in, or the server does not permit it.
    Refused,
    /// The deployment that was waited for did not succeed.
    DeploymentFailed,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        match code {
            Code::Failure => Self::from(1),
            Code::Usage => Self::from(2),
            Code::Refused => Self::from(3),
            Code::DeploymentFailed => Self::from(4),
        }
    }
}

/// An error and the exit code that it means.
#[derive(Debug)]
pub struct Failure {
    pub code: Code,
    pub error: anyhow::Error,
}

impl Failure {
    /// Arguments that cannot be followed.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            code: Code::Usage,
            error: anyhow::Error::msg(message.into()),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            code: Code::Failure,
            error: error.into(),
        }
    }
}
