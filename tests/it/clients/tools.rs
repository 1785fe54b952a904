//! Clients at work against servers that have what they ask for.

use super::{CLIENTS, check, has};

#[test]
fn curl_fetches() {
    let script =
        "curl -sS https://packages.test/hello; echo; curl -sS -I https://packages.test/hello | head -1";
    check("aegis/base", script, &["hello\n", " 200"], &["packages.test"]);
}

#[test]
fn pythons_own_library_fetches() {
    let script =
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"https://packages.test/hello\").read())'";
    check("aegis/base", script, &["b'hello'"], &["packages.test"]);
}

#[test]
fn git_clones_and_fetches_over_https() {
    let script = "set -e; git clone -q https://git.test/work.git /tmp/work; cat /tmp/work/file
        git -C /tmp/work fetch -v origin 2>&1; git ls-remote https://git.test/work.git
        git clone -q --depth 1 --filter=blob:none https://git.test/work.git /tmp/shallow 2>/dev/null; cat /tmp/shallow/file";
    check("aegis/base", script, &["a thing of git\n", "[up to date]", "refs/heads/main"], &["git.test"]);
}

#[test]
fn long_pip_installs() {
    if !has(CLIENTS) {
        return;
    }
    let script = "set -e; pip install -q --target /tmp/site --index-url https://packages.test/simple/ thing
        PYTHONPATH=/tmp/site python3 -c 'import thing; print(thing.WORDS)'";
    check(CLIENTS, script, &["a thing of pip\n"], &["packages.test"]);
}

#[test]
fn long_npm_installs() {
    if !has("aegis/node") {
        return;
    }
    let script = "set -e; mkdir /tmp/w; cd /tmp/w; npm install --registry https://packages.test/npm/ thing
        node -e 'console.log(require(\"thing\"))'";
    check("aegis/node", script, &["a thing of npm\n"], &["packages.test"]);
}

#[test]
fn long_cargo_fetches_from_an_index_in_git() {
    if !has("aegis/rust") {
        return;
    }
    let script = "set -e; cargo new -q --vcs none /tmp/w; cd /tmp/w; mkdir .cargo
        echo 'thing = { version = \"1\", registry = \"mine\" }' >>Cargo.toml
        printf '[registries.mine]\\nindex = \"https://git.test/index.git\"\\n' >.cargo/config.toml
        cargo fetch; cat $(find $HOME/.cargo/registry/src -name lib.rs)";
    check("aegis/rust", script, &["a thing of cargo\n"], &["git.test", "packages.test"]);
}

#[test]
fn long_cargo_fetches_from_a_sparse_index() {
    if !has("aegis/rust") {
        return;
    }
    // The distribution's cargo is one of the last that does not take such an index without being told to.
    let script = "set -e; cargo new -q --vcs none /tmp/w; cd /tmp/w; mkdir .cargo; export RUSTC_BOOTSTRAP=1
        echo 'thing = { version = \"1\", registry = \"mine\" }' >>Cargo.toml
        printf '[registries.mine]\\nindex = \"sparse+https://packages.test/index/\"\\n' >.cargo/config.toml
        cargo -Z sparse-registry fetch; cat $(find $HOME/.cargo/registry/src -name lib.rs)";
    check("aegis/rust", script, &["a thing of cargo\n"], &["packages.test"]);
}

#[test]
fn long_apt_updates_and_downloads() {
    if !has(CLIENTS) {
        return;
    }
    // Its directories lie below /tmp, as the root cannot be written; it takes no variable for authorities.
    let script = "set -e; mkdir -p /tmp/apt/state/lists/partial /tmp/apt/cache/archives/partial /tmp/apt/etc; cd /tmp/apt
        echo 'deb [trusted=yes arch=amd64] https://packages.test/debian stable main' >sources.list
        apt() { apt-get -q -o Dir::State=/tmp/apt/state -o Dir::State::status=/var/lib/dpkg/status -o Dir::Cache=/tmp/apt/cache \\
            -o Dir::Etc=/tmp/apt/etc -o Dir::Etc::SourceList=/tmp/apt/sources.list -o Dir::Log=/tmp/apt \\
            ${CURL_CA_BUNDLE:+-o Acquire::https::CAInfo=$CURL_CA_BUNDLE} \"$@\"; }
        [ \"$CURL_CA_BUNDLE\" = /tmp/ca.pem ] || unset CURL_CA_BUNDLE
        apt update; apt download thing; dpkg-deb --fsys-tarfile thing_1.0_all.deb | tar -xO ./usr/share/thing";
    check(CLIENTS, script, &["a thing of apt\n"], &["packages.test"]);
}

#[test]
fn long_node_fetches() {
    if !has("aegis/node") {
        return;
    }
    let script = "cat >/tmp/fetch.mjs <<'JS'
import https from 'node:https'
https.get('https://packages.test/hello', it => it.on('data', data => console.log('https', data.toString())))
console.log('fetch', await (await fetch('https://packages.test/hello')).text())
JS
        node /tmp/fetch.mjs";
    check("aegis/node", script, &["https hello\n", "fetch hello\n"], &["packages.test"]);
}

#[test]
fn long_go_fetches() {
    if !has("aegis/go") {
        return;
    }
    // With the C library's resolver, and with its own.
    let script = "cat >/tmp/fetch.go <<'GO'
package main

import (
	\"fmt\"
	\"io\"
	\"net/http\"
)

func main() {
	answer, err := http.Get(\"https://packages.test/hello\")
	if err != nil {
		panic(err)
	}
	body, _ := io.ReadAll(answer.Body)
	fmt.Println(\"go\", string(body), answer.ProtoMajor > 0)
}
GO
        set -e; export GOCACHE=/tmp/cache GOTMPDIR=/tmp; go build -o /tmp/fetch /tmp/fetch.go
        GODEBUG=netdns=cgo /tmp/fetch; GODEBUG=netdns=go /tmp/fetch";
    check("aegis/go", script, &["go hello true\ngo hello true\n"], &["packages.test"]);
}

#[test]
fn long_java_fetches() {
    if !has(CLIENTS) {
        return;
    }
    let script = "cat >/tmp/Fetch.java <<'JAVA'
import java.net.*;
import java.net.http.*;

public class Fetch {
    public static void main(String[] arguments) throws Exception {
        var address = URI.create(\"https://packages.test/hello\");
        System.out.println(\"url \" + new String(address.toURL().openStream().readAllBytes()));
        var answer = HttpClient.newHttpClient().send(HttpRequest.newBuilder(address).build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(\"client \" + answer.body());
    }
}
JAVA
        set -e
        if [ -e /tmp/ca.pem ]; then
            keytool -importcert -noprompt -alias servers -file /tmp/ca.pem -keystore /tmp/cacerts -storepass changeit 2>/dev/null
            set -- -Djavax.net.ssl.trustStore=/tmp/cacerts -Djavax.net.ssl.trustStorePassword=changeit
        fi
        java \"$@\" /tmp/Fetch.java";
    check(CLIENTS, script, &["url hello\n", "client hello\n"], &["packages.test"]);
}
