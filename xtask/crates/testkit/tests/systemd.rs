//! A machine that systemd boots, through a shutdown, a power cut and a script that is killed.

use testkit::vm::systemd::{Boot, System};

/// The first process must be systemd, and it must find everything well.
const FIRST: &str = r#"
set -e
test "$(cat /proc/1/comm)" = systemd
systemctl is-system-running --wait
test -s /opt/given
echo kept >/root/kept
exit 3
"#;

#[test]
#[ignore = "boots a VM three times, and fetches Debian 12 for that when it is not there yet"]
fn systemd_boots_one_disk_again_and_again() {
    let mut system = System::new().unwrap();
    let mut boot = Boot::new(FIRST);
    boot.files = vec![("Cargo.toml".into(), "/opt/given".into())];
    let first = system.boot(&boot).unwrap();
    assert_eq!((first.output.trim(), first.code), ("running", 3));
    assert!(
        first.console.contains("Multi-User System"),
        "{}",
        first.console
    );

    let mut cut = Boot::new("cat /root/kept; sync; echo lost >/root/lost; exit 0");
    cut.power_cut = true;
    let second = system.boot(&cut).unwrap();
    assert_eq!((second.output.trim(), second.code), ("kept", 0));
    assert!(!second.console.contains("Power down"), "{}", second.console);

    let third = system
        .boot(&Boot::new(
            "cat /root/kept /opt/given; test ! -s /root/lost; kill -9 $$",
        ))
        .unwrap();
    assert!(
        third.output.starts_with("kept\n[package]"),
        "{}",
        third.output
    );
    assert_eq!(third.code, 126);
    for boot in [first, second, third] {
        println!("{:.1} s", boot.elapsed.as_secs_f64());
    }
}
