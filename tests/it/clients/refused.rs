//! Clients that ask for a host that no rule names: refused at once, by their own clock, and on record with the reason.

use super::{CLIENTS, MODES, REFUSED_WITHIN, World, has};

/// Runs a script that fails to reach `denied.test`, and says `refused` once for each attempt, in both modes.
#[track_caller]
fn check(image: &str, attempts: usize, script: &str) {
    let world = World::new();
    for mode in MODES {
        let tasks = world.tasks(mode);
        let ended = world.run(mode, &tasks, image, script);
        ended.no_breach().code(0).says("`denied.test` is not reached: no rule names it");
        let refused: Vec<&str> = ended.stdout.lines().filter(|it| it.starts_with("refused")).collect();
        assert_eq!(refused.len(), attempts, "{mode:?}: {ended:#?}");
        for line in refused {
            // Whose clock can be read says how long it took at best.
            let best_ms = line.strip_prefix("refused in ").map(|it| it.parse::<f64>().unwrap());
            assert!(best_ms.is_none_or(|it| it < REFUSED_WITHIN.as_millis() as f64), "{mode:?}: {line}");
        }
        let denied: Vec<String> =
            tasks.verdicts().into_iter().filter(|it| it.starts_with("denied.test")).collect();
        assert_eq!(denied, ["denied.test denied_name"], "{mode:?}");
        assert_eq!(world.denied.connections(), 0);
    }
    let (packages, git) = (world.packages.connections(), world.git.connections());
    assert_eq!((packages, git), (0, 0), "the others were not asked");
}

#[test]
fn what_the_base_image_has_is_refused_at_once() {
    check(
        "aegis/base",
        4,
        "cat >/tmp/refused.py <<'PY'
import socket, time
def took():
    begun = time.monotonic()
    try: socket.create_connection(('denied.test', 443), 5); print('BREACH')
    except OSError: return (time.monotonic() - begun) * 1000
print('refused in', min(took() for _ in range(5)))
PY
        python3 /tmp/refused.py
        for i in 1 2 3 4 5; do curl -sS -w '%{time_total}\\n' https://denied.test/ 2>/dev/null; done | sort -g | head -1 |
            awk '{ print \"refused in\", $1 * 1000 }'
        git ls-remote https://denied.test/x.git 2>/dev/null && echo BREACH || echo refused
        curl -sS https://denied.test/ 2>&1 | grep -q 'not resolve' && echo refused",
    );
}

#[test]
fn long_package_clients_are_refused() {
    if !has(CLIENTS) {
        return;
    }
    check(
        CLIENTS,
        2,
        "pip install -q --retries 0 --target /tmp/site --index-url https://denied.test/simple/ thing 2>/dev/null && echo BREACH || echo refused
        mkdir -p /tmp/apt/lists/partial; echo 'deb [trusted=yes] https://denied.test/debian ./' >/tmp/apt/sources.list
        apt-get -q -o Dir::State::lists=/tmp/apt/lists -o Dir::Cache=/tmp/apt -o Dir::Etc::SourceList=/tmp/apt/sources.list \\
            -o Acquire::Retries=0 --error-on=any update 2>/dev/null && echo BREACH || echo refused",
    );
}

#[test]
fn long_cargo_is_refused() {
    if !has("aegis/rust") {
        return;
    }
    check(
        "aegis/rust",
        1,
        "cargo new -q --vcs none /tmp/w; cd /tmp/w; mkdir .cargo
        echo 'thing = { version = \"1\", registry = \"mine\" }' >>Cargo.toml
        printf '[registries.mine]\\nindex = \"https://denied.test/index.git\"\\n' >.cargo/config.toml
        CARGO_NET_RETRY=0 cargo fetch 2>/dev/null && echo BREACH || echo refused",
    );
}

#[test]
fn long_npm_and_node_are_refused() {
    if !has("aegis/node") {
        return;
    }
    check(
        "aegis/node",
        2,
        "cat >/tmp/refused.mjs <<'JS'
import net from 'node:net'
const took = () => new Promise(done => {
    const begun = performance.now()
    net.connect(443, 'denied.test', () => console.log('BREACH')).on('error', () => done(performance.now() - begun))
})
let best = Infinity
for (let i = 0; i < 5; i++) best = Math.min(best, await took())
console.log('refused in ' + best)
JS
        node /tmp/refused.mjs
        mkdir /tmp/w; cd /tmp/w
        npm install --fetch-retries 0 --registry https://denied.test/npm/ thing 2>/dev/null && echo BREACH || echo refused",
    );
}

#[test]
fn long_go_is_refused_at_once() {
    if !has("aegis/go") {
        return;
    }
    check(
        "aegis/go",
        2,
        "cat >/tmp/refused.go <<'GO'
package main

import (
	\"fmt\"
	\"net\"
	\"time\"
)

func main() {
	best := time.Hour
	for i := 0; i < 5; i++ {
		begun := time.Now()
		if _, err := net.Dial(\"tcp\", \"denied.test:443\"); err == nil {
			fmt.Println(\"BREACH\")
		}
		if took := time.Since(begun); took < best {
			best = took
		}
	}
	fmt.Println(\"refused in\", float64(best.Microseconds())/1000)
}
GO
        export GOCACHE=/tmp/cache GOTMPDIR=/tmp; go build -o /tmp/refused /tmp/refused.go
        GODEBUG=netdns=cgo /tmp/refused; GODEBUG=netdns=go /tmp/refused",
    );
}

#[test]
fn long_java_is_refused_at_once() {
    if !has(CLIENTS) {
        return;
    }
    // It keeps a name that was refused for ten seconds, unless it is told otherwise.
    check(
        CLIENTS,
        1,
        "cat >/tmp/Refused.java <<'JAVA'
import java.net.*;

public class Refused {
    public static void main(String[] arguments) throws Exception {
        java.security.Security.setProperty(\"networkaddress.cache.negative.ttl\", \"0\");
        double best = Double.MAX_VALUE;
        for (int i = 0; i < 5; i++) {
            long begun = System.nanoTime();
            try (var socket = new Socket(\"denied.test\", 443)) {
                System.out.println(\"BREACH\");
            } catch (UnknownHostException e) {
                best = Math.min(best, (System.nanoTime() - begun) / 1e6);
            }
        }
        System.out.println(\"refused in \" + best);
    }
}
JAVA
        java /tmp/Refused.java",
    );
}
