//! Update modules: programs that install a payload type, spoken to by protocol version 3
//! (agent-behaviour section 5). Third-party modules written for the reference client run
//! unmodified.
//!
//! Owns the calls and their answers ([`ModuleHandler`]), the file tree and the delivery of the
//! payload. The module's output goes to the log, line by line.

pub mod answer;
mod download;
mod tree;

use std::path::PathBuf;

use ambidex_artifact::names::check_payload_type;
use ambidex_platform::fs;
use ambidex_platform::process::{self, Command, Exit};

use crate::context::InstallContext;
use crate::handler::{HandlerError, Reboot};

pub(crate) use download::{DownloadError, download};
pub(crate) use tree::Tree;

/// Talks to the module of one payload type.
#[derive(Debug, Clone)]
pub struct ModuleHandler {
    payload_type: String,
    context: InstallContext,
}

impl ModuleHandler {
    pub(crate) fn new(payload_type: &str, context: InstallContext) -> Result<Self, HandlerError> {
        check_payload_type(payload_type).map_err(HandlerError::Configuration)?;
        Ok(Self {
            payload_type: payload_type.to_owned(),
            context,
        })
    }

    pub(crate) fn exists(payload_type: &str, context: &InstallContext) -> bool {
        fs::is_executable_file(&context.modules_dir.join(payload_type))
    }

    fn program(&self) -> PathBuf {
        self.context.modules_dir.join(&self.payload_type)
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree::at(&self.context.work_dir)
    }

    pub(crate) fn context(&self) -> &InstallContext {
        &self.context
    }

    pub(crate) fn check_exists(&self) -> Result<(), HandlerError> {
        if Self::exists(&self.payload_type, &self.context) {
            return Ok(());
        }
        Err(HandlerError::NoModule {
            payload_type: self.payload_type.clone(),
            path: self.program(),
        })
    }

    fn command(&self, call: &'static str) -> Result<Command, HandlerError> {
        self.check_exists()?;
        let tree = self.tree();
        if !tree.exists() {
            return Err(HandlerError::State(format!(
                "update module {}: {call} cannot run: its file tree {} is gone",
                self.payload_type,
                tree.root().display()
            )));
        }
        // the protocol promises an absolute path, whatever the configuration says
        let root = std::path::absolute(tree.root())
            .map_err(|cause| fs::FsError::new("resolve", tree.root(), cause))?;
        Ok(Command::new(self.program(), self.context.module_timeout)
            .arg(call)
            .arg(&root)
            .cwd(&root))
    }

    pub(crate) async fn call(&self, call: &'static str) -> Result<(), HandlerError> {
        let command = self.command(call)?;
        log::debug!("update module {}: calling {call}", self.payload_type);
        let exit = process::run(&command, &mut |_, line| self.log(call, line)).await?;
        self.judge(call, exit)
    }

    fn judge(&self, call: &'static str, exit: Exit) -> Result<(), HandlerError> {
        if exit.success() {
            return Ok(());
        }
        Err(HandlerError::Failed {
            payload_type: self.payload_type.clone(),
            call,
            outcome: exit.to_string(),
        })
    }

    fn log(&self, call: &str, line: &str) {
        log::info!("update module {}: {call}: {line}", self.payload_type);
    }

    pub(crate) fn protocol(&self, call: &'static str, problem: impl Into<String>) -> HandlerError {
        HandlerError::Protocol {
            payload_type: self.payload_type.clone(),
            call,
            problem: problem.into(),
        }
    }

    /// Asks a question and has `read` understand what the module prints.
    async fn ask<T>(
        &self,
        call: &'static str,
        read: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, HandlerError> {
        let command = self.command(call)?;
        // one byte more than an answer has, so that a longer one is known
        let output = process::capture(&command, answer::BYTES_MAX + 1, &mut |_, line| {
            self.log(call, line)
        })
        .await?;
        self.judge(call, output.exit)?;
        read(&output.stdout).map_err(|problem| self.protocol(call, problem))
    }

    /// `ProvidePayloadFileSizes`
    pub(crate) async fn wants_sizes(&self) -> Result<bool, HandlerError> {
        self.ask("ProvidePayloadFileSizes", answer::yes_or_no).await
    }

    pub(crate) async fn needs_reboot(&self) -> Result<Reboot, HandlerError> {
        self.ask("NeedsArtifactReboot", answer::reboot).await
    }

    pub(crate) async fn supports_rollback(&self) -> Result<bool, HandlerError> {
        self.ask("SupportsRollback", answer::yes_or_no).await
    }

    pub(crate) async fn install(&self) -> Result<(), HandlerError> {
        self.call("ArtifactInstall").await
    }

    pub(crate) async fn reboot(&self) -> Result<(), HandlerError> {
        self.call("ArtifactReboot").await
    }

    pub(crate) async fn verify_reboot(&self) -> Result<(), HandlerError> {
        self.call("ArtifactVerifyReboot").await
    }

    pub(crate) async fn commit(&self) -> Result<(), HandlerError> {
        self.call("ArtifactCommit").await
    }

    pub(crate) async fn rollback(&self) -> Result<(), HandlerError> {
        self.call("ArtifactRollback").await
    }

    pub(crate) async fn rollback_reboot(&self) -> Result<(), HandlerError> {
        self.call("ArtifactRollbackReboot").await
    }

    pub(crate) async fn verify_rollback_reboot(&self) -> Result<(), HandlerError> {
        self.call("ArtifactVerifyRollbackReboot").await
    }

    pub(crate) async fn failure(&self) -> Result<(), HandlerError> {
        self.call("ArtifactFailure").await
    }

    /// Calls `Cleanup` if the tree was made, and removes the tree whatever the module says.
    pub(crate) async fn cleanup(&self) -> Result<(), HandlerError> {
        let tree = self.tree();
        if !tree.exists() {
            return Ok(());
        }
        let called = self.call("Cleanup").await;
        fs::remove_tree(tree.root())?;
        called
    }
}
