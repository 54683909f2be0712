//! Debian's packages, with no service started on the way.

use std::{fs, process::Command};

use anyhow::Result;

use crate::sh;

/// Installs packages. Policy keeps a service from starting now, `systemctl disable` from starting at the next
/// boot: a gateway's tests want nobody else on the machine's ports. What was there before stays as it was.
const SCRIPT: &str = r#"
set -eu
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "$@"
if [ -d /run/systemd/system ]; then
    for package in "$@"; do
        case "$package" in
            nginx-light) systemctl disable --now nginx ;;
            haproxy | prometheus) systemctl disable --now "$package" ;;
        esac
    done
fi
"#;

/// Whether packages come from Debian's archive (its derivatives lack the `-web` toolchain).
pub(super) fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"))
}

/// Whether a package is installed.
pub(super) fn installed(package: &str) -> bool {
    sh::read(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// Installs packages that are not there yet.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    sh::run(sh::as_root("sh")?.args(["-c", SCRIPT, "setup"]).args(packages))
}
