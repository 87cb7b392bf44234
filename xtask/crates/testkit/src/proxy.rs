//! Reverse proxies, run by configurations as an administrator writes them.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};

use crate::program::{CADDY, ENVOY, HAPROXY, NGINX};

/// A reverse proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// <https://nginx.org>
    Nginx,
    /// <https://caddyserver.com>
    Caddy,
    /// <https://www.haproxy.org>
    Haproxy,
    /// <https://www.envoyproxy.io>
    Envoy,
}

impl Proxy {
    /// `text`, which listens on port 80, with another address to listen at.
    ///
    /// # Errors
    /// When it does not say in the usual way that it listens on port 80.
    pub fn listening(self, text: &str, at: SocketAddr) -> Result<String> {
        let (usual, here) = match self {
            Self::Nginx => ("listen 80;", format!("listen {at};")),
            // Caddy answers 200, and nothing else, to a host that it does not know.
            Self::Caddy => (":80 {", format!(":{} {{\n\tbind {}", at.port(), at.ip())),
            Self::Haproxy => ("bind :80", format!("bind {at}")),
            Self::Envoy => (
                "{ address: 0.0.0.0, port_value: 80 }",
                format!("{{ address: {}, port_value: {} }}", at.ip(), at.port()),
            ),
        };
        ensure!(
            text.contains(usual),
            "the configuration does not say `{usual}`"
        );
        Ok(text.replace(usual, &here))
    }

    /// Runs it in the foreground by this configuration, with all its files in `home`. It logs to standard error.
    ///
    /// # Errors
    /// When no mirror that this machine knows has it, or `home` can't be written.
    pub fn command(self, home: &Path, text: &str) -> Result<Command> {
        match self {
            Self::Nginx => nginx(home, text),
            Self::Caddy => caddy(home, text),
            Self::Haproxy => haproxy(home, text),
            Self::Envoy => envoy(home, text),
        }
    }
}

fn nginx(home: &Path, text: &str) -> Result<Command> {
    let text = format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr;\n\
         events {{ }}\nhttp {{ access_log off;\n\
         client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n{text}\n}}\n",
        home.display()
    );
    let file = written(home, "nginx.conf", &text)?;
    let mut command = NGINX.command()?;
    command.arg("-p").arg(home).arg("-c").arg(file);
    command.args(["-e", "stderr"]);
    Ok(command)
}

fn caddy(home: &Path, text: &str) -> Result<Command> {
    let file = written(home, "Caddyfile", &format!("{{\n\tadmin off\n}}\n{text}"))?;
    let mut command = CADDY.command()?;
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(file);
    command.env("HOME", home).env("XDG_DATA_HOME", home);
    command.env("XDG_CONFIG_HOME", home);
    Ok(command)
}

fn haproxy(home: &Path, text: &str) -> Result<Command> {
    let file = written(home, "haproxy.cfg", text)?;
    let mut command = HAPROXY.command()?;
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

fn envoy(home: &Path, text: &str) -> Result<Command> {
    let file = written(home, "envoy.yaml", text)?;
    let mut command = ENVOY.command()?;
    command.arg("--config-path").arg(file);
    // Nothing that another one on this machine may have too.
    command.args(["--concurrency", "1", "--disable-hot-restart"]);
    Ok(command)
}

fn written(home: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let file = home.join(name);
    fs::write(&file, text)?;
    Ok(file)
}
