//! Certificates and kubeconfig files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    Cluster,
    layout::{API_SERVICE, Node},
};
use crate::command;

/// Without a section of extensions: each certificate names its own.
const CONFIGURATION: &str = "[req]\ndistinguished_name = name\n[name]\n";
const DAYS: &str = "3650";

/// Makes the authority, every part's certificate and every part's kubeconfig.
pub(super) fn make(cluster: &Cluster, nodes: &[Node]) -> Result<()> {
    let pki = Pki {
        folder: cluster.pki(),
        server: format!("https://{}:6443", cluster.first_node().address()),
    };
    fs::create_dir_all(&pki.folder).with_context(|| pki.folder.display().to_string())?;
    fs::write(pki.path("openssl.cnf"), CONFIGURATION)?;
    pki.authority()?;
    pki.service_account_key()?;
    let address = cluster.first_node().address();
    let names = "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost";
    let addresses = format!("IP:127.0.0.1,IP:{address},IP:{API_SERVICE}");
    pki.certificate(
        "apiserver",
        "/CN=kube-apiserver",
        Some(&format!("{names},{addresses}")),
    )?;
    pki.certificate("front-proxy", "/CN=front-proxy", None)?;
    pki.certificate(
        "kubelet-client",
        "/O=system:masters/CN=kube-apiserver-kubelet-client",
        None,
    )?;
    pki.user(
        "admin",
        "/O=system:masters/CN=admin",
        None,
        &cluster.kubeconfig(),
    )?;
    for part in ["kube-controller-manager", "kube-scheduler", "kube-proxy"] {
        pki.user(
            part,
            &format!("/CN=system:{part}"),
            None,
            &pki.kubeconfig(part),
        )?;
    }
    for node in nodes {
        let name = &node.name;
        let subject = format!("/O=system:nodes/CN=system:node:{name}");
        let names = format!("DNS:{name},IP:{}", node.address());
        pki.user(name, &subject, Some(&names), &pki.kubeconfig(name))?;
    }
    Ok(())
}

struct Pki {
    folder: PathBuf,
    server: String,
}

impl Pki {
    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn kubeconfig(&self, user: &str) -> PathBuf {
        self.path(&format!("{user}.conf"))
    }

    fn authority(&self) -> Result<()> {
        let extensions = [
            "basicConstraints=critical,CA:TRUE",
            "keyUsage=critical,keyCertSign,cRLSign",
        ];
        command::capture(
            self.request("ca", "/CN=kurier test authority")
                .args(added(&extensions)),
        )?;
        Ok(())
    }

    fn certificate(&self, name: &str, subject: &str, names: Option<&str>) -> Result<()> {
        let names = names.map(|names| format!("subjectAltName={names}"));
        let mut extensions = vec![
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth,clientAuth",
        ];
        extensions.extend(names.as_deref());
        let mut request = self.request(name, subject);
        request
            .arg("-CA")
            .arg(self.path("ca.crt"))
            .arg("-CAkey")
            .arg(self.path("ca.key"));
        command::capture(request.args(added(&extensions)))?;
        Ok(())
    }

    fn user(&self, name: &str, subject: &str, names: Option<&str>, config: &Path) -> Result<()> {
        self.certificate(name, subject, names)?;
        // JSON is YAML.
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": self.server,
                "certificate-authority": self.path("ca.crt"),
            }}],
            "users": [{"name": name, "user": {
                "client-certificate": self.path(&format!("{name}.crt")),
                "client-key": self.path(&format!("{name}.key")),
            }}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        });
        fs::write(config, text.to_string())
            .with_context(|| format!("cannot write {}", config.display()))
    }

    fn service_account_key(&self) -> Result<()> {
        let key = self.path("sa.key");
        let curve = "ec_paramgen_curve:P-256";
        command::capture(
            Command::new("openssl")
                .args(["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out"])
                .arg(&key),
        )?;
        let mut public = Command::new("openssl");
        public
            .arg("pkey")
            .arg("-in")
            .arg(&key)
            .arg("-pubout")
            .arg("-out")
            .arg(self.path("sa.pub"));
        command::capture(&mut public)?;
        Ok(())
    }

    /// A certificate over a new key; signed by itself until more is said.
    fn request(&self, name: &str, subject: &str) -> Command {
        let mut openssl = Command::new("openssl");
        openssl
            .args(["req", "-x509", "-noenc", "-days", DAYS, "-subj", subject])
            .args([
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-config",
            ])
            .arg(self.path("openssl.cnf"))
            .arg("-keyout")
            .arg(self.path(&format!("{name}.key")))
            .arg("-out")
            .arg(self.path(&format!("{name}.crt")));
        openssl
    }
}

fn added<'a>(extensions: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    extensions
        .iter()
        .flat_map(|extension| ["-addext", extension])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_vouches_for_what_it_signed() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::at(Some(folder.path().into())).unwrap();
        make(&cluster, &cluster.nodes(2)).unwrap();
        let pki = cluster.pki();
        for name in ["apiserver", "front-proxy", "admin", "n1", "n2"] {
            let mut verify = Command::new("openssl");
            verify.arg("verify").arg("-CAfile").arg(pki.join("ca.crt"));
            command::capture(verify.arg(pki.join(format!("{name}.crt")))).unwrap();
        }
        let mut show = Command::new("openssl");
        show.args(["x509", "-noout", "-text", "-in"])
            .arg(pki.join("n2.crt"));
        let text = command::capture(&mut show).unwrap();
        assert!(
            text.contains("O = system:nodes, CN = system:node:n2"),
            "{text}"
        );
        assert!(text.contains("IP Address:10.0.0.12"), "{text}");
        assert!(text.contains("CA:FALSE"), "{text}");
        let config = fs::read_to_string(cluster.kubeconfig()).unwrap();
        assert!(config.contains("https://10.0.0.11:6443"), "{config}");
    }
}
