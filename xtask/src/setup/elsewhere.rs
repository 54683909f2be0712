//! Packages on systems other than Debian: which line installs them. Running it is the user's to decide.

/// A package manager: its program, its words, and its names for what Debian calls otherwise.
type Manager = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const MANAGERS: &[Manager] = &[
    ("apt-get", "apt-get install", &[]),
    (
        "dnf",
        "dnf install",
        &[
            ("iproute2", "iproute"),
            ("nginx-light", "nginx"),
            ("prometheus", "golang-github-prometheus"),
            ("libnginx-mod-stream", "nginx-mod-stream"),
        ],
    ),
    (
        "pacman",
        "pacman -S",
        &[("bpftool", "bpf"), ("nginx-light", "nginx"), ("libnginx-mod-stream", "nginx-mod-stream")],
    ),
    (
        "zypper",
        "zypper install",
        &[
            ("nginx-light", "nginx"),
            ("prometheus", "golang-github-prometheus-prometheus"),
            ("libnginx-mod-stream", "nginx"),
        ],
    ),
];

/// What to tell a user who needs packages. `has` says whether a program is there.
pub(super) fn advice(packages: &[&str], has: impl Fn(&str) -> bool) -> String {
    let Some((_, words, names)) = MANAGERS.iter().find(|(program, _, _)| has(program)) else {
        return format!("install these (names as in Debian): {}", packages.join(" "));
    };
    let own = |package: &str| {
        names
            .iter()
            .find(|(debian, _)| *debian == package)
            .map_or(package.to_owned(), |(_, own)| (*own).to_owned())
    };
    let packages: Vec<_> = packages.iter().map(|package| own(package)).collect();
    format!("install what is missing, then try again: sudo {words} {}", packages.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_the_package_managers() {
        for (manager, want) in [
            ("apt-get", "sudo apt-get install iproute2 nginx-light"),
            ("dnf", "sudo dnf install iproute nginx"),
            ("pacman", "sudo pacman -S iproute2 nginx"),
            ("none", "names as in Debian): iproute2 nginx-light"),
        ] {
            let advice = advice(&["iproute2", "nginx-light"], |program| program == manager);
            assert!(advice.ends_with(want), "{manager}: {advice}");
        }
    }
}
