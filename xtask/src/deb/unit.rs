//! A unit file, as far as the trial needs it: what systemd would start, with which folders, rights and environment.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, bail};

/// The unit in the checkout.
pub(super) const FILE: &str = "config/systemd/sluice.service";

/// A unit's settings, in the order of the file.
#[derive(Debug)]
pub(super) struct Unit(Vec<(String, String)>);

impl Unit {
    pub(super) fn parse(text: &str) -> Self {
        let text = text.replace("\\\n", " ");
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';', '[']));
        let settings = lines.filter_map(|line| line.split_once('='));
        Self(settings.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect())
    }

    /// Every value of a setting.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, value)| &**value)
    }

    /// The value of a setting that is there once.
    pub(super) fn one<'a>(&'a self, key: &'a str) -> Result<&'a str> {
        let mut all = self.all(key);
        match (all.next(), all.next()) {
            (Some(value), None) => Ok(value),
            (None, _) => bail!("the unit has no {key}="),
            (Some(_), Some(_)) => bail!("the unit has several {key}=, which the trial does not understand"),
        }
    }

    /// The folders that systemd makes before the start, with their modes.
    pub(super) fn folders(&self) -> Result<Vec<(String, u32)>> {
        let mut folders = Vec::new();
        for (key, root) in
            [("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run"), ("LogsDirectory", "/var/log")]
        {
            for name in self.all(key).flat_map(str::split_whitespace) {
                let key = format!("{key}Mode");
                let mode = self.one(&key)?;
                let mode = u32::from_str_radix(mode, 8).with_context(|| format!("{key}={mode}"))?;
                folders.push((format!("{root}/{name}"), mode));
            }
        }
        Ok(folders)
    }

    /// The variables of its environment files, which lie below a root folder. A leading `-`: it may be missing.
    pub(super) fn environment(&self, root: &Path) -> Result<BTreeMap<String, String>> {
        let mut environment = BTreeMap::new();
        for file in self.all("EnvironmentFile") {
            let (optional, file) = file.strip_prefix('-').map_or((false, file), |file| (true, file));
            match std::fs::read_to_string(super::below(root, file)) {
                Ok(text) => {
                    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
                    let pairs = lines.filter_map(|line| line.split_once('='));
                    environment.extend(pairs.map(|(k, v)| (k.to_owned(), v.trim_matches('"').to_owned())));
                }
                Err(_) if optional => {}
                Err(e) => bail!("EnvironmentFile={file}: {e}"),
            }
        }
        Ok(environment)
    }

    /// A command line with its variables put in: `$NAME` as a word of its own becomes its words, none if it is unset.
    pub(super) fn command(&self, key: &str, environment: &BTreeMap<String, String>) -> Result<Vec<String>> {
        let line = self.one(key)?;
        let words = line.split_whitespace().flat_map(|word| match word.strip_prefix('$') {
            Some(name) => {
                let value = environment.get(name).map_or("", String::as_str);
                value.split_whitespace().map(str::to_owned).collect()
            }
            None => vec![word.to_owned()],
        });
        Ok(words.collect())
    }

    /// What `setpriv` needs to give a process the unit's rights.
    pub(super) fn setpriv(&self) -> Result<Vec<String>> {
        let names = self.one("CapabilityBoundingSet")?;
        let set = names
            .split_whitespace()
            .map(|name| format!(",+{}", name.strip_prefix("CAP_").unwrap_or(name).to_ascii_lowercase()));
        let mut words = vec![format!("--bounding-set=-all{}", set.collect::<String>())];
        if self.one("NoNewPrivileges")? == "yes" {
            words.push("--no-new-privs".to_owned());
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sh;

    #[test]
    fn the_units_settings_are_understood() {
        let unit = Unit::parse(&std::fs::read_to_string(sh::root().join(FILE)).unwrap());
        let set = |value: &str| BTreeMap::from([("SLUICE_ARGS".to_owned(), value.to_owned())]);
        let line = "/usr/bin/sluice run -f /etc/sluice/conf.d";
        assert_eq!(unit.command("ExecStart", &BTreeMap::new()).unwrap().join(" "), line);
        assert_eq!(unit.command("ExecStart", &set("a  b")).unwrap().join(" "), format!("{line} a b"));
        assert!(unit.folders().unwrap().contains(&("/var/lib/sluice".to_owned(), 0o700)));
        let setpriv = unit.setpriv().unwrap();
        assert!(setpriv[0].starts_with("--bounding-set=-all,+bpf,"), "{setpriv:?}");
        assert_eq!(setpriv[1], "--no-new-privs");
        // It makes /sys/fs/bpf read-only, and no ReadWritePaths= takes that back (systemd 252, tried).
        assert_eq!(unit.all("ProtectKernelTunables").next(), None);
        assert!(unit.one("Nothing").is_err() && unit.one("SystemCallFilter").is_err());
    }
}
