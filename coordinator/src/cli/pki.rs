//! `rfs pki`: certificates for fleets that have no authority of their own.

use std::path::Path;

use rfs_link::pki::{self, Authority, Existing, Order, PkiError, Shown, Subject};
use rfs_link::{Exit, Failure, Identity};
use rfs_model::time::SystemClock;
use rfs_model::{Clock as _, Reason};
use serde_json::{Value, json};

use super::arguments::{CertificateRole, Making, PkiCommand};
use super::error::CliError;
use super::output::Output;
use super::table::Table;
use super::words::paint;
use crate::duration::show_duration;

pub(super) fn run(command: PkiCommand, output: &mut Output) -> Result<Exit, CliError> {
    match command {
        PkiCommand::Init { trust_domain, dir, making, validity } => {
            let shown =
                pki::init(&dir, &trust_domain, validity, existing(&making), &SystemClock).map_err(failure)?;
            let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
            let next = format!("rfs pki issue coordinator main --dns HOST --ca-dir {}", dir.display());
            made(output, &shown, &certificate, &key, Some(&next))
        }
        PkiCommand::Issue { role, name, names, ca_dir, dir, making, validity } => {
            let identity = identity(role, &name)?;
            let authority = Authority::open(&ca_dir).map_err(failure)?;
            let issued =
                authority.issue(&Order { identity, names, validity }, &SystemClock).map_err(failure)?;
            let dir = dir.unwrap_or(ca_dir);
            let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
            std::fs::create_dir_all(&dir).map_err(|error| cannot_make(&dir, &error))?;
            issued.write(&certificate, &key, existing(&making)).map_err(failure)?;
            made(output, &issued.shown().map_err(failure)?, &certificate, &key, None)
        }
        PkiCommand::Show { file } => {
            let certificates = pki::show(&file).map_err(failure)?;
            if output.is_json() {
                output.document(
                    &json!({ "certificates": certificates.iter().map(document).collect::<Vec<_>>() }),
                )?;
                return Ok(Exit::Done);
            }
            for (number, shown) in certificates.iter().enumerate() {
                if number > 0 {
                    output.line("")?;
                }
                output.table(&table(shown))?;
            }
            Ok(Exit::Done)
        }
    }
}

fn existing(making: &Making) -> Existing {
    if making.force { Existing::Replace } else { Existing::Keep }
}

fn identity(role: CertificateRole, name: &str) -> Result<Identity, Failure> {
    let named = match role {
        CertificateRole::Agent => name.parse().map(Identity::Agent),
        CertificateRole::Operator => name.parse().map(Identity::Operator),
        CertificateRole::Coordinator => name.parse().map(Identity::Coordinator),
    };
    named.map_err(|error| Failure::new(Reason::InvalidArgument, error.to_string()).next("give another name"))
}

fn failure(error: PkiError) -> CliError {
    error.failure().into()
}

fn cannot_make(dir: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Reason::Io, format!("cannot make {}: {error}", dir.display()))
        .next("give another folder with --dir")
}

fn made(
    output: &mut Output,
    shown: &Shown,
    certificate: &Path,
    key: &Path,
    next: Option<&str>,
) -> Result<Exit, CliError> {
    if output.is_json() {
        let files = json!({ "certificate_file": certificate, "key_file": key });
        output.document(&json!({ "certificate": document(shown), "files": files }))?;
        return Ok(Exit::Done);
    }
    output.line(format!("wrote {} and {}", certificate.display(), key.display()))?;
    output.table(&table(shown))?;
    if let Some(next) = next {
        output.line(format!("{} {next}", paint::label("next:")))?;
    }
    Ok(Exit::Done)
}

fn document(shown: &Shown) -> Value {
    let (kind, id) = match &shown.subject {
        Subject::Authority(domain) => ("authority", format!("spiffe://{domain}")),
        Subject::Member(id) => ("member", id.to_string()),
        Subject::Nobody(_) => ("nobody", String::new()),
    };
    json!({
        "kind": kind,
        "id": id,
        "names": shown.names,
        "not_before": shown.not_before.to_string(),
        "not_after": shown.not_after.to_string(),
        "serial": shown.serial,
        "issuer": shown.issuer,
    })
}

fn table(shown: &Shown) -> Table {
    let subject = match &shown.subject {
        Subject::Authority(domain) => format!("the root of {domain}"),
        Subject::Member(id) => id.to_string(),
        Subject::Nobody(why) => paint::bad(format!("nobody whom RFS knows: {why}")),
    };
    let now = SystemClock.now();
    let left = match shown.not_after.since(now) {
        left if left.is_zero() => paint::bad("expired"),
        left => format!("for another {}", show_duration(left)),
    };
    let mut table = Table::bare();
    let mut row = |what: &str, value: String| table.row([format!("  {}", paint::label(what)), value]);
    row("names", subject);
    if !shown.names.is_empty() {
        row("dialled as", shown.names.join(", "));
    }
    row("valid until", format!("{}, {left}", shown.not_after));
    row("serial", shown.serial.clone());
    row("issuer", shown.issuer.clone());
    table
}
