//! The table, name by name.

use crate::sandbox::workspace::withheld::look::{Look, Seen, judge as judge_content};
use crate::sandbox::workspace::withheld::{Kind, Verdict, judge};

const FILE: Kind = Kind::File { size: 100, executable: false };

fn said(path: &str, kind: Kind, beside: &[&str]) -> Verdict {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    judge(parent.as_bytes(), name.as_bytes(), kind, |it| beside.iter().any(|other| other.as_bytes() == it))
}

#[track_caller]
fn check_withheld(paths: &[&str], kind: Kind) {
    for path in paths {
        assert!(matches!(said(path, kind, &["composer.json"]), Verdict::Withheld(_)), "{path}");
    }
}

#[track_caller]
fn check_goes(paths: &[&str], kind: Kind) {
    for path in paths {
        assert_eq!(said(path, kind, &[]), Verdict::Goes, "{path}");
    }
}

#[track_caller]
fn check_asks(paths: &[&str], look: Look) {
    for path in paths {
        assert!(matches!(said(path, FILE, &[]), Verdict::Asks(it, _) if it == look), "{path}");
    }
}

#[test]
fn environment_files_are_withheld_and_their_templates_are_not() {
    check_withheld(
        &[
            ".env",
            ".env.local",
            "a/b/.env.production",
            "prod.env",
            ".envrc",
            ".env_ci",
            ".env-x",
            ".dev.vars",
        ],
        FILE,
    );
    check_goes(
        &[
            ".env.example",
            ".env.sample",
            ".env.template",
            ".env.dist",
            ".env.local.example",
            "web/.env-example",
        ],
        FILE,
    );
    check_goes(&["src/environment.rs", "vite-env.d.ts", "src/env", "my.environment"], FILE);
}

#[test]
fn names_are_compared_without_case_and_copies_are_what_they_copy() {
    check_withheld(
        &[".ENV", "ID_RSA", ".Npmrc", "Server.P12", ".env.bak", ".npmrc~", "x.tfstate.backup"],
        FILE,
    );
}

#[test]
fn credentials_of_tools_are_withheld() {
    check_withheld(
        &[
            ".npmrc",
            "web/.npmrc",
            ".netrc",
            "_netrc",
            ".pypirc",
            "id_rsa",
            "deploy/id_ed25519",
            "a.p12",
            "a.pfx",
            "a.jks",
            "a.ppk",
            "a.p8",
            "application_default_credentials.json",
            ".docker/config.json",
            ".dockercfg",
            "kubeconfig",
            "prod.kubeconfig",
            ".terraformrc",
            "terraform.tfstate",
            ".boto",
            ".s3cfg",
            ".git-credentials",
            ".htpasswd",
            ".vault-token",
            ".cargo/credentials",
            ".cargo/credentials.toml",
            ".gem/credentials",
            ".composer/auth.json",
            "auth.json",
            ".m2/settings.xml",
            "secring.gpg",
        ],
        FILE,
    );
}

#[test]
fn a_name_means_something_only_in_its_place() {
    check_goes(
        &[
            "config.json",
            "docs/settings.xml",
            "src/auth.json",
            "src/credentials.toml",
            "src/credentials/mod.rs",
        ],
        Kind::File { size: 1 << 20, executable: false },
    );
}

#[test]
fn directories_of_credentials_are_withheld_whole() {
    check_withheld(
        &[".ssh", ".gnupg", ".aws", ".azure", ".kube", ".config/gcloud", ".env", "a/.SSH"],
        Kind::Directory,
    );
    check_goes(
        &["ssh", "aws", "gcloud", ".config", ".docker", ".envs", "keys.pem", "id_rsa"],
        Kind::Directory,
    );
}

#[test]
fn a_link_is_judged_by_its_name_alone() {
    check_withheld(&[".env", ".ssh", "id_rsa", ".npmrc"], Kind::Symlink);
    check_goes(&["server.pem", "LICENSE"], Kind::Symlink);
}

#[test]
fn what_may_be_public_is_looked_at() {
    check_asks(&["ca.pem", "deep/down/server.key"], Look::NotPublic);
    check_asks(&["deploy_key", "keys/main", "signing", "src/my-rsa", "a.asc", "host.crt"], Look::PrivateKey);
    check_asks(
        &["config/x.json", "src/service-account.json", "src/shop-0123456789ab.json"],
        Look::ServiceAccount,
    );
    check_asks(&[".hg/hgrc", ".yarnrc.yml", "gradle.properties", "a/pip.conf"], Look::Login);
}

#[test]
fn ordinary_files_are_not_looked_at() {
    check_goes(&["src/main.rs", "src/data.json", "docs/LICENSE", "lib/module", "node_modules/a/rsa"], FILE);
    check_goes(&["configure"], Kind::File { size: 100, executable: true });
    check_goes(&["data"], Kind::File { size: 1 << 20, executable: false });
}

fn check_content(content: &str, look: Look, expected: Seen) {
    assert_eq!(judge_content(content.as_bytes(), look, false), expected, "{content}");
}

#[test]
fn a_private_key_is_known_by_its_mark() {
    for key in [
        "-----BEGIN PRIVATE KEY-----\nMII",
        "-----BEGIN RSA PRIVATE KEY-----\n",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        "text before\n-----BEGIN OPENSSH PRIVATE KEY-----\n",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
        "# created: today\n# public key: age1x\nAGE-SECRET-KEY-1QQQ",
        "PuTTY-User-Key-File-3: ssh-ed25519",
    ] {
        check_content(key, Look::PrivateKey, Seen::Secret);
        check_content(key, Look::NotPublic, Seen::Secret);
    }
    check_content("-----BEGIN PGP PUBLIC KEY BLOCK-----\n", Look::PrivateKey, Seen::Harmless);
}

#[test]
fn certificates_go_in_and_bundles_with_a_key_do_not() {
    let certificate = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";
    check_content(certificate, Look::NotPublic, Seen::Harmless);
    check_content(&format!("{certificate}-----BEGIN EC PRIVATE KEY-----\n"), Look::NotPublic, Seen::Secret);
    check_content("0123456789abcdef", Look::NotPublic, Seen::Secret);
    check_content("", Look::NotPublic, Seen::Harmless);
}

#[test]
fn a_key_or_bundle_that_is_too_large_to_be_read_stays_outside() {
    assert_eq!(judge_content(b"-----BEGIN CERTIFICATE-----", Look::NotPublic, true), Seen::Secret);
}

#[test]
fn a_login_is_a_setting_with_a_value_or_a_url_with_a_password() {
    for line in [
        "npmAuthToken: abc",
        "signing.password=abc",
        "  \"//host/:_authToken\" \"x\"\n_authToken=x",
        "index-url = https://me:abc@example.org/simple",
        "index-url = https://abc@example.org/simple",
        "<add key=\"ClearTextPassword\" value=\"abc\" />",
    ] {
        check_content(line, Look::Login, Seen::Secret);
    }
    for line in [
        "nodeLinker: node-modules",
        "npmAuthToken: \"${TOKEN}\"",
        "signing.password=",
        "url = ssh://git@example.org/x",
        "index-url = https://example.org/simple",
        "org.gradle.jvmargs=-Xmx2g",
        "index-url = https://${USER}:${PASS}@example.org/simple",
    ] {
        check_content(line, Look::Login, Seen::Harmless);
    }
}

#[test]
fn a_service_account_is_known_by_its_key() {
    check_content(r#"{"type": "service_account", "private_key": "x"}"#, Look::ServiceAccount, Seen::Secret);
    check_content(r#"{"type": "authorized_user", "refresh_token": "x"}"#, Look::ServiceAccount, Seen::Secret);
    check_content(r#"{"name": "x", "private": true}"#, Look::ServiceAccount, Seen::Harmless);
}
