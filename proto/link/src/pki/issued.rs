//! What was issued, and how it is written: whole or not at all, keys for their owner alone.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use super::error::PkiError;
use super::shown::{Shown, Subject};
use crate::identity::IdentityError;

/// Whether files that exist are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// They stay, and the command is refused.
    Keep,
    /// They are replaced.
    Replace,
}

/// A certificate and its key, in PEM form.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key. Secret.
    pub key: String,
    /// It is a root, which may take the place of another one.
    pub(super) is_root: bool,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Issued {
    /// Writes both files, each whole or not at all.
    pub fn write(&self, certificate: &Path, key: &Path, existing: Existing) -> Result<(), PkiError> {
        if !self.is_root {
            keeps_roots(certificate, key)?;
        }
        if existing == Existing::Keep {
            for path in [certificate, key] {
                if fs::symlink_metadata(path).is_ok() {
                    return Err(PkiError::Exists(path.to_owned()));
                }
            }
        }
        write(key, &self.key, 0o600, existing)?;
        let written = write(certificate, &self.certificate, 0o644, existing);
        if written.is_err() && existing == Existing::Keep {
            // A key without its certificate would only block the next try.
            let _ = fs::remove_file(key);
        }
        written
    }

    /// What the certificate says.
    pub fn shown(&self) -> Result<Shown, PkiError> {
        let not_a_certificate =
            |source| PkiError::NotACertificate { path: PathBuf::from("the new certificate"), source };
        let shown = Shown::parse(&self.certificate).map_err(not_a_certificate)?;
        shown.into_iter().next().ok_or(not_a_certificate(IdentityError::NoUri))
    }
}

/// Refuses to put anything in the place of a root or of its key: with the key the whole fleet would be lost.
fn keeps_roots(certificate: &Path, key: &Path) -> Result<(), PkiError> {
    let is_root = |shown: &Shown| matches!(shown.subject, Subject::Authority(_));
    let roots = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        Shown::parse(&text).is_ok_and(|shown| shown.iter().any(is_root))
    };
    // Where the key of a root lies without its certificate, its name alone says what it is.
    let is_root_key =
        key.file_name().is_some_and(|name| name == "ca.key") && fs::symlink_metadata(key).is_ok();
    match (roots(certificate), is_root_key || roots(&key.with_extension("pem"))) {
        (true, _) => Err(PkiError::IsARoot(certificate.to_owned())),
        (false, true) => Err(PkiError::IsARoot(key.to_owned())),
        (false, false) => Ok(()),
    }
}

fn write(path: &Path, text: &str, mode: u32, existing: Existing) -> Result<(), PkiError> {
    let failed = |source| PkiError::Io { what: "write", path: path.to_owned(), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let permissions = fs::Permissions::from_mode(mode);
    let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(dir).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    let persisted = match existing {
        Existing::Keep => file.persist_noclobber(path),
        Existing::Replace => file.persist(path),
    };
    persisted.map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => PkiError::Exists(path.to_owned()),
        _ => failed(error.error),
    })?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}
