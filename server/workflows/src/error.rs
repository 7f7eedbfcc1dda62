use ambidex_db::DbError;
use ambidex_kit::ApiError;

/// Why something was not done, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum WorkflowsError {
    /// The input has the wrong form.
    #[error("{0}")]
    Invalid(String),
    /// A definition of this version or a newer one is registered already.
    #[error("Workflow already exists")]
    Exists,
    /// There is no such workflow, or none as new as was asked for.
    #[error("Workflow not found")]
    NoWorkflow,
    /// There is no record of such a job.
    #[error("not found")]
    NoJob,
    /// The database.
    #[error("{0}")]
    Db(#[from] DbError),
    /// The client for requests to other hosts cannot be set up.
    #[error("http client: {0}")]
    Client(String),
}

impl From<WorkflowsError> for ApiError {
    fn from(error: WorkflowsError) -> ApiError {
        match error {
            WorkflowsError::Invalid(text) => ApiError::bad_request(text),
            WorkflowsError::Exists => ApiError::conflict(error.to_string()),
            WorkflowsError::NoWorkflow | WorkflowsError::NoJob => {
                ApiError::not_found(error.to_string())
            }
            WorkflowsError::Db(error) => error.into(),
            other => ApiError::internal(other),
        }
    }
}
