//! Turns what is written into a configuration that can be relied on, or says what is wrong with it.

mod components;
mod health;
mod retention;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rfs_model::{HostId, Labels};
use toml::Spanned;

use super::raw::{self, Raw, Time};
use super::source::Complaint;
use super::{Config, Link};

const VERSION: u32 = 1;
const MAX_RESTORE_TIME: Duration = Duration::from_secs(300);

pub(super) fn judge(text: &str, path: &Path) -> Result<Config, Complaint> {
    let judge = Judge { text };
    let raw: Raw = toml::from_str(text).map_err(|error| judge.parser(&error))?;
    if let Some(version) = &raw.version
        && *version.get_ref() != VERSION
    {
        let message =
            format!("version {} is not known; this agent reads version {VERSION}", version.get_ref());
        return Err(judge.at(version.span(), message));
    }
    let host =
        HostId::new(raw.host.name.get_ref()).map_err(|e| judge.at(raw.host.name.span(), e.to_string()))?;
    let labels = judge.labels(&raw.host.labels)?;
    let store = judge.path(&raw.store.path)?;
    let link = judge.link(raw.coordinator.as_ref(), raw.tls.as_ref())?;
    let mut own = vec![path.to_path_buf()];
    own.extend(link.iter().flat_map(|link| [link.ca.clone(), link.certificate.clone(), link.key.clone()]));
    let components = judge.components(&raw.component, &store, &own)?;
    let health = judge.health(&raw.health)?;
    let max_restore_time = raw.restore.max_time.map_or(MAX_RESTORE_TIME, |Time(time)| time);
    let retention = judge.retention(&raw.retention)?;
    let reserve = judge.reserve(raw.store.reserve.as_ref())?;
    let clones = raw.store.clones.unwrap_or(true);
    let path = path.into();
    Ok(Config {
        path,
        host,
        labels,
        store,
        reserve,
        clones,
        link,
        components,
        health,
        max_restore_time,
        retention,
    })
}

/// Judges one text, so that a complaint can point into it.
struct Judge<'a> {
    text: &'a str,
}

impl Judge<'_> {
    fn at(&self, span: Range<usize>, message: impl Into<String>) -> Complaint {
        Complaint::at(self.text, span, message)
    }

    fn parser(&self, error: &toml::de::Error) -> Complaint {
        match error.span() {
            Some(span) => self.at(span, error.message().trim_end()),
            None => Complaint::whole(error.message().trim_end()),
        }
    }

    fn labels(&self, written: &BTreeMap<Spanned<String>, Spanned<String>>) -> Result<Labels, Complaint> {
        let mut labels = Labels::new();
        for (key, value) in written {
            for part in [key, value] {
                let good = |c: char| c.is_ascii_graphic() && c != '=' && c != ',';
                if part.get_ref().is_empty() || part.get_ref().len() > 63 || !part.get_ref().chars().all(good)
                {
                    let rule = "a label's key and value are 1 to 63 printable ASCII characters without spaces, '=' and ','";
                    return Err(
                        self.at(part.span(), format!("{:?} is not valid in a label: {rule}", part.get_ref()))
                    );
                }
            }
            labels.insert(key.get_ref().clone(), value.get_ref().clone());
        }
        Ok(labels)
    }

    /// A path that is absolute and normal, so that two spellings of one path cannot pass for two paths.
    fn path(&self, written: &Spanned<String>) -> Result<PathBuf, Complaint> {
        let text = written.get_ref();
        let wrong = |what: &str| Err(self.at(written.span(), format!("path {text:?} {what}")));
        let path = Path::new(text);
        if !path.is_absolute() {
            return wrong("is not absolute; write it from the root, such as \"/srv/site\"");
        }
        if text.contains('\0') {
            return wrong("contains a zero byte");
        }
        if path.components().any(|part| part == Component::ParentDir)
            || text.split('/').any(|part| part == ".")
        {
            return wrong("contains \".\" or \"..\"; write the path that it leads to");
        }
        let normal: PathBuf = path.components().collect();
        if normal.as_os_str().len() != text.len() {
            return Err(
                self.at(written.span(), format!("path {text:?} is not normal; write {:?}", normal.display()))
            );
        }
        Ok(normal)
    }

    fn link(
        &self,
        coordinator: Option<&Spanned<raw::Coordinator>>,
        tls: Option<&Spanned<raw::Tls>>,
    ) -> Result<Option<Link>, Complaint> {
        let (coordinator, tls) = match (coordinator, tls) {
            (None, None) => return Ok(None),
            (Some(coordinator), Some(tls)) => (coordinator.get_ref(), tls.get_ref()),
            (Some(only), None) => {
                return Err(self.at(only.span(), "[coordinator] needs [tls] with ca, certificate and key"));
            }
            (None, Some(only)) => {
                return Err(self.at(only.span(), "[tls] needs [coordinator] with endpoints"));
            }
        };
        if coordinator.endpoints.get_ref().is_empty() {
            return Err(self.at(coordinator.endpoints.span(), "name at least one endpoint"));
        }
        for endpoint in coordinator.endpoints.get_ref() {
            let rest = endpoint.get_ref().strip_prefix("https://");
            if !rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', ' ', '@', '?', '#'])) {
                let message = format!(
                    "endpoint {:?} is not valid; write https://NAME:PORT, such as \"https://rfs.example.net:7443\"",
                    endpoint.get_ref()
                );
                return Err(self.at(endpoint.span(), message));
            }
        }
        Ok(Some(Link {
            endpoints: coordinator.endpoints.get_ref().iter().map(|e| e.get_ref().clone()).collect(),
            ca: self.path(&tls.ca)?,
            certificate: self.path(&tls.certificate)?,
            key: self.path(&tls.key)?,
        }))
    }
}
