//! `ambidex artifacts`

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use ambidex_artifact::{ReadOptions, Reader, Sha256Digest, Verification};
use ambidex_wire::management::deployments::{Artifact, ArtifactLink};
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::{Args, Subcommand};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use super::api::{Api, decode};
use super::connection::Connection;
use super::table;
use crate::OutputForm;
use crate::exit::Failure;
use crate::output_file::OutputFile;
use crate::progress::Progress;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
    ambidex artifacts upload release-2.mender --description 'fixes the clock'
    ambidex artifacts list
    ambidex artifacts download release-2 -o copy.mender")]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Upload an artifact file.
    Upload {
        /// Artifact file.
        file: PathBuf,
        /// What it is for.
        #[arg(long, default_value = "", value_name = "TEXT")]
        description: String,
        /// Show no progress bar.
        #[arg(long)]
        no_progress: bool,
    },
    /// Show the artifacts that the server has.
    List {
        /// Only those of this name.
        #[arg(long)]
        name: Option<String>,
    },
    /// Show all that is known of an artifact.
    Show {
        /// Id, or a name that only one artifact has.
        artifact: String,
    },
    /// Download an artifact; it is checked before the file appears.
    Download {
        /// Id, or a name that only one artifact has.
        artifact: String,
        /// File to write; `-` is standard output [default: NAME.mender].
        #[arg(short = 'o', long, value_name = "FILE")]
        output_path: Option<PathBuf>,
        /// Show no progress bar.
        #[arg(long)]
        no_progress: bool,
    },
    /// Delete artifacts.
    Delete {
        /// Ids, or names that only one artifact has.
        #[arg(required = true)]
        artifacts: Vec<String>,
    },
}

const ARTIFACTS: [&str; 3] = ["v1", "deployments", "artifacts"];

impl Arguments {
    pub async fn run(self, form: OutputForm) -> Result<(), Failure> {
        let api = self.connection.api()?;
        match self.verb.unwrap_or(Verb::List { name: None }) {
            Verb::Upload {
                file,
                description,
                no_progress,
            } => {
                let (name, id) = upload(&api, &file, &description, no_progress).await?;
                match form {
                    OutputForm::Json => {
                        table::print_json(&serde_json::json!({ "id": id, "name": name }))
                    }
                    OutputForm::Table => table::emit(&format!("{id}  {}\n", table::plain(&name))),
                }
            }
            Verb::List { name } => list(&api, name.as_deref(), form).await,
            Verb::Show { artifact } => show(&api, &artifact, form).await,
            Verb::Download {
                artifact,
                output_path,
                no_progress,
            } => download(&api, &artifact, output_path, no_progress).await,
            Verb::Delete { artifacts } => {
                for artifact in &artifacts {
                    let found = find(&api, artifact).await?;
                    let path = [&ARTIFACTS[..], &[&found.id]].concat();
                    api.delete(&path, &format!("cannot delete {artifact}"))
                        .await?;
                    eprintln!("{} deleted  {}", found.id, table::plain(&found.name));
                }
                Ok(())
            }
        }
    }
}

async fn all(api: &Api) -> Result<Vec<Value>, Failure> {
    match api
        .get(&ARTIFACTS, &[], "cannot list the artifacts")
        .await?
    {
        Value::Array(found) => Ok(found),
        _ => Err(anyhow!("cannot list the artifacts: the answer is not a list").into()),
    }
}

/// The artifact of an id or an unambiguous name.
async fn find(api: &Api, wanted: &str) -> Result<Artifact, Failure> {
    let mut matches = Vec::new();
    for value in &all(api).await? {
        let artifact: Artifact = decode(value, "an artifact")?;
        if artifact.id == wanted {
            return Ok(artifact);
        }
        if artifact.name == wanted {
            matches.push(artifact);
        }
    }
    match matches.len() {
        0 => Err(anyhow!("the server has no artifact with the id or name {wanted:?}").into()),
        1 => Ok(matches.remove(0)),
        count => Err(Failure::usage(format!(
            "{count} artifacts are called {wanted:?}; give the id of one: {}",
            matches
                .iter()
                .map(|artifact| artifact.id.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

async fn list(api: &Api, name: Option<&str>, form: OutputForm) -> Result<(), Failure> {
    let mut found = all(api).await?;
    if let Some(name) = name {
        found.retain(|artifact| artifact["name"] == name);
    }
    if form == OutputForm::Json {
        return table::print_json(&Value::Array(found));
    }
    let mut rows = Vec::new();
    for value in &found {
        let artifact: Artifact = decode(value, "an artifact")?;
        rows.push(vec![
            artifact.id,
            table::plain(&artifact.name),
            artifact.size.to_string(),
            if artifact.signed {
                "signed"
            } else {
                "unsigned"
            }
            .into(),
            artifact.modified,
            table::plain(&artifact.device_types_compatible.join(",")),
        ]);
    }
    table::print(
        &[
            "ID",
            "NAME",
            "BYTES",
            "SIGNATURE",
            "MODIFIED",
            "DEVICE TYPES",
        ],
        &rows,
    )
}

async fn show(api: &Api, wanted: &str, form: OutputForm) -> Result<(), Failure> {
    let id = find(api, wanted).await?.id;
    let value = api
        .get(
            &[&ARTIFACTS[..], &[&id]].concat(),
            &[],
            &format!("cannot show {wanted}"),
        )
        .await?;
    if form == OutputForm::Json {
        return table::print_json(&value);
    }
    let artifact: Artifact = decode(&value, "an artifact")?;
    let mut text = format!(
        "ID: {}\nName: {}\nDescription: {}\nDevice types: {}\nSigned: {}\nBytes: {}\nModified: {}\n",
        artifact.id,
        table::plain(&artifact.name),
        table::plain(&artifact.description),
        table::plain(&artifact.device_types_compatible.join(", ")),
        if artifact.signed { "yes" } else { "no" },
        artifact.size,
        artifact.modified,
    );
    text += "Provides:\n";
    for (key, value) in &artifact.artifact_provides {
        text += &format!("  {}: {}\n", table::plain(key), table::plain(value));
    }
    text += "Depends on:\n";
    for (key, values) in &artifact.artifact_depends {
        text += &format!(
            "  {}: {}\n",
            table::plain(key),
            table::plain(&values.join(", "))
        );
    }
    for update in &artifact.updates {
        text += &format!(
            "Payload: {}\n",
            table::plain(update.type_info.kind.as_deref().unwrap_or("empty"))
        );
        for file in update.files.iter().flatten() {
            text += &format!(
                "  {}  {} bytes  {}\n",
                file.checksum,
                file.size,
                table::plain(&file.name)
            );
        }
    }
    table::emit(&text)
}

/// Bytes read from the file at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// Uploads without holding the file in memory; name and id.
pub async fn upload(
    api: &Api,
    file: &Path,
    description: &str,
    quiet: bool,
) -> Result<(String, String), Failure> {
    let cannot = || format!("cannot upload {}", file.display());
    // What is no artifact is refused before a byte is sent.
    let path = file.to_owned();
    let header = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let reader = Reader::open(
            File::open(&path)?,
            &ReadOptions::inspect(Verification::Ignore),
        )?;
        Ok(reader.header().clone())
    });
    let header = header
        .await
        .context("the work ended unexpectedly")?
        .with_context(cannot)?;
    if let Some(key) = header.conflicting_provides().first() {
        return Err(anyhow!(
            "{}: the artifact provides {key} twice, which servers refuse",
            cannot()
        )
        .into());
    }

    let opened = tokio::fs::File::open(file).await.with_context(cannot)?;
    let size = opened.metadata().await.with_context(cannot)?.len();
    let boundary = boundary(size);
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"description\"\r\n\r\n{description}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"size\"\r\n\r\n{size}\r\n\
         --{boundary}\r\nContent-Disposition: form-data; name=\"artifact\"; filename=\"artifact.mender\"\r\n\
         Content-Type: application/octet-stream\r\n\r\n"
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let length = head.len() as u64 + size + tail.len() as u64;
    let progress = Progress::new("uploading", size, quiet);
    let parts = futures_util::stream::unfold(
        Part::Head(head, opened, tail, progress),
        |part| async move {
            match part {
                Part::Head(head, file, tail, progress) => {
                    Some((Ok(Bytes::from(head)), Part::Content(file, tail, progress)))
                }
                Part::Content(mut file, tail, progress) => {
                    let mut piece = Vec::with_capacity(PIECE_BYTES);
                    match (&mut file)
                        .take(PIECE_BYTES as u64)
                        .read_to_end(&mut piece)
                        .await
                    {
                        Ok(0) => Some((Ok(Bytes::from(tail)), Part::End)),
                        Ok(count) => {
                            progress.advance(count as u64);
                            Some((Ok(Bytes::from(piece)), Part::Content(file, tail, progress)))
                        }
                        Err(error) => Some((Err(error), Part::End)),
                    }
                }
                Part::End => None,
            }
        },
    );
    let content_type = format!("multipart/form-data; boundary={boundary}");
    let id = api
        .upload(
            &ARTIFACTS,
            &content_type,
            length,
            reqwest::Body::wrap_stream(parts),
            &cannot(),
        )
        .await?;
    Ok((header.name, id))
}

/// A line that the file cannot have, since nobody can foresee it.
fn boundary(size: u64) -> String {
    let seed = format!(
        "{:?} {} {size}",
        std::time::SystemTime::now(),
        std::process::id()
    );
    format!("ambidex-{}", Sha256Digest::of(seed.as_bytes()))
}

/// What of the upload comes next.
enum Part {
    Head(String, tokio::fs::File, String, Progress),
    Content(tokio::fs::File, String, Progress),
    End,
}

async fn download(
    api: &Api,
    wanted: &str,
    output_path: Option<PathBuf>,
    quiet: bool,
) -> Result<(), Failure> {
    let artifact = find(api, wanted).await?;
    let doing = format!("cannot download {wanted}");
    let path = [&ARTIFACTS[..], &[&artifact.id, "download"]].concat();
    let link: ArtifactLink = decode(&api.get(&path, &[], &doing).await?, "a link")?;
    let target = output_path.unwrap_or_else(|| {
        // A name from a server is not a path.
        let name: String = artifact
            .name
            .chars()
            .map(|c| if c == '/' || c.is_control() { '_' } else { c })
            .collect();
        PathBuf::from(format!("{}.mender", name.trim_start_matches('.')))
    });
    let mut output = OutputFile::create(&target)?;
    let mut response = api.fetch(&link.uri, &doing).await?;
    let progress = Progress::new("loading", artifact.size, quiet);
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(reqwest::Error::without_url)
        .with_context(|| doing.clone())?
    {
        output
            .file()
            .write_all(&piece)
            .with_context(|| format!("cannot write {}", target.display()))?;
        progress.advance(piece.len() as u64);
    }
    drop(progress);
    output.file().seek(SeekFrom::Start(0))?;
    let checked = tokio::task::spawn_blocking(move || -> anyhow::Result<OutputFile> {
        Reader::open(&*output.file(), &ReadOptions::inspect(Verification::Ignore))?.finish()?;
        Ok(output)
    });
    let output = checked
        .await
        .context("the work ended unexpectedly")?
        .with_context(|| doing.clone())?;
    output.publish()?;
    if target != Path::new("-") {
        eprintln!("{}", target.display());
    }
    Ok(())
}
