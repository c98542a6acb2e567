//! The certificates of a test cluster, made in memory: no openssl needed.

use std::{fs, path::Path};

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use super::leaks;

/// Whom the API server takes the bearer of a kubeconfig for. Any name will do, at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// its name in RBAC bindings
    pub(crate) name: &'static str,
    /// its group in RBAC bindings
    pub(crate) group: Option<&'static str>,
}

impl User {
    /// May do everything.
    pub(crate) const ADMIN: User = User { name: "admin", group: Some("system:masters") };
    /// A platform engineer; may do nothing until bound.
    pub(crate) const PLATFORM: User = User { name: "platform", group: None };
    /// Owner of a namespace; may do nothing until bound.
    pub(crate) const TENANT: User = User { name: "tenant", group: None };
}

/// The certificate authority that the API server believes, for itself and for its users.
pub(crate) struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// Makes an authority and writes into `folder` what kube-apiserver reads: `ca.crt`, `server.crt`, `server.key`,
    /// and the key pair of service account tokens, `sa.key` and `sa.pub`.
    pub(crate) fn create(folder: &Path) -> Pki {
        let mut params = params("sekuire-test-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let ca = CertifiedIssuer::self_signed(params, key()).expect("sign the authority");
        let pki = Pki { ca };

        let mut params = CertificateParams::new(vec![
            "127.0.0.1".to_owned(),
            "localhost".to_owned(),
            "kubernetes.default.svc".to_owned(),
        ])
        .expect("valid names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = key();
        let server = params.signed_by(&server_key, &pki.ca).expect("sign the server");
        let accounts = key();
        for (name, text) in [
            ("ca.crt", pki.ca.pem()),
            ("server.crt", server.pem()),
            ("server.key", server_key.serialize_pem()),
            ("sa.key", accounts.serialize_pem()),
            ("sa.pub", accounts.public_key_pem()),
        ] {
            fs::write(folder.join(name), text).unwrap_or_else(|e| panic!("write {name}: {e}"));
        }
        pki
    }

    /// The certificate authority, PEM.
    pub(crate) fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    /// A kubeconfig for `user` at `server` (an https URL), as JSON, which every reader of YAML reads.
    pub(crate) fn kubeconfig(&self, user: User, server: &str) -> String {
        let mut params = params(user.name, user.group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let user_key = key();
        let certificate = params.signed_by(&user_key, &self.ca).expect("sign the user");
        let base64 = |pem: String| ByteString(pem.into_bytes());
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {
                "server": server,
                "certificate-authority-data": base64(self.ca.pem()),
            }}],
            "users": [{"name": user.name, "user": {
                "client-certificate-data": base64(certificate.pem()),
                "client-key-data": base64(user_key.serialize_pem()),
            }}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user.name}}],
            "current-context": "test",
        });
        format!("{config:#}\n")
    }
}

fn key() -> KeyPair {
    let key = KeyPair::generate().expect("generate a key");
    leaks::secret("a key of the test cluster", key.serialize_pem());
    key
}

fn params(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params
}
