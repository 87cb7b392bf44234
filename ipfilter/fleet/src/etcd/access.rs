//! How to show etcd who this is, and to know etcd.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// Certificates, user and password.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Access {
    /// Speak TLS, with a member of etcd that shows a certificate of this authority
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// Show etcd this certificate
    #[arg(long, value_name = "FILE", requires_all = ["key", "ca"])]
    pub(crate) cert: Option<PathBuf>,

    /// The certificate's key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,

    /// Log in as this user of etcd's
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub(crate) user: Option<String>,

    /// Read the user's password from this file
    #[arg(long, value_name = "FILE", requires = "user")]
    pub(crate) password_file: Option<PathBuf>,
}

/// What was read of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    /// How to speak TLS, if that is spoken.
    pub(super) tls: Option<ClientTlsConfig>,
    /// User and password.
    pub(super) login: Option<(String, String)>,
}

impl Access {
    /// Reads the files.
    pub(crate) fn read(&self) -> Result<Credentials, String> {
        let mut tls = None;
        if let Some(ca) = &self.ca {
            let mut config =
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(file(ca)?));
            if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
                config = config.identity(Identity::from_pem(file(cert)?, file(key)?));
            }
            tls = Some(config);
        }
        let login = match (&self.user, &self.password_file) {
            (Some(user), Some(path)) => {
                let password = String::from_utf8(file(path)?)
                    .map_err(|_| format!("`{}` is not text", path.display()))?;
                Some((
                    user.clone(),
                    password.trim_end_matches(['\r', '\n']).to_owned(),
                ))
            }
            _ => None,
        };
        Ok(Credentials { tls, login })
    }
}

fn file(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("can't read `{}`: {error}", path.display()))
}
