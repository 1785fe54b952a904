//! Sockets that init makes for its host: where they listen, and where they may not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use aegis_init::wire::{Listen, Reply, Request, Transport};

use crate::host::Sandbox;

const RESOLVER: [u8; 4] = [127, 0, 0, 1];
const NAME: [u8; 4] = [127, 64, 0, 1];

fn listen(sandbox: &mut Sandbox, transport: Transport, address: [u8; 4], port: u16) -> Result<OwnedFd, i32> {
    sandbox.request(&Request::Listen(Listen { id: 7, transport, address, port }));
    match sandbox.reply_with() {
        (Reply::Listening { id: 7, errno: 0 }, mut descriptors) if descriptors.len() == 1 => {
            Ok(descriptors.remove(0))
        }
        (Reply::Listening { id: 7, errno }, descriptors) if errno != 0 && descriptors.is_empty() => {
            Err(errno)
        }
        other => panic!("no socket and no errno but {other:?}"),
    }
}

#[track_caller]
fn check_refused(transport: Transport, address: [u8; 4], port: u16, errno: i32) {
    let refused = listen(&mut Sandbox::attested(), transport, address, port);
    assert_eq!(refused.err(), Some(errno), "{transport:?} {address:?} {port}");
}

#[test]
fn a_socket_of_the_sandbox_is_accepted_from_outside() {
    let mut sandbox = Sandbox::attested();
    let listener = TcpListener::from(listen(&mut sandbox, Transport::Tcp, NAME, 443).expect("a socket"));
    assert_eq!(listener.local_addr().ok(), Some(SocketAddr::from((NAME, 443))));
    let flags = fcntl(&listener, FcntlArg::F_GETFL).expect("flags");
    assert!(OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK), "{flags:#x}");
    listener.set_nonblocking(false).expect("it waits");
    let client = sandbox.order(&[
        "bash",
        "-c",
        "exec 3<>/dev/tcp/127.64.0.1/443; echo hello >&3; read -r line <&3; echo $line",
    ]);
    let client = sandbox.start(&client);
    let (mut stream, _) = listener.accept().expect("the client");
    let mut line = [0; 6];
    stream.read_exact(&mut line).expect("a line");
    assert_eq!(&line, b"hello\n");
    stream.write_all(b"and back\n").expect("written");
    assert_eq!(sandbox.finish(client).output, "and back\n");
}

#[test]
fn the_resolvers_sockets_take_datagrams_and_connections() {
    let mut sandbox = Sandbox::attested();
    let datagrams = UdpSocket::from(listen(&mut sandbox, Transport::Udp, RESOLVER, 53).expect("a socket"));
    let _connections = listen(&mut sandbox, Transport::Tcp, RESOLVER, 53).expect("a socket");
    datagrams.set_nonblocking(false).expect("it waits");
    let client = sandbox.order(&["bash", "-c", "echo query >/dev/udp/127.0.0.1/53; echo sent"]);
    assert_eq!(sandbox.start(&client).exec, 0);
    let mut query = [0; 16];
    let (length, _) = datagrams.recv_from(&mut query).expect("a query");
    assert_eq!(&query[..length], b"query\n");
}

#[test]
fn no_other_address_is_listened_on() {
    for address in
        [[0, 0, 0, 0], [127, 0, 0, 1], [127, 0, 0, 2], [127, 63, 255, 255], [127, 128, 0, 0], [10, 64, 0, 1]]
    {
        check_refused(Transport::Tcp, address, 443, libc::EACCES);
    }
    check_refused(Transport::Tcp, NAME, 0, libc::EACCES);
    check_refused(Transport::Udp, NAME, 53, libc::EACCES);
    check_refused(Transport::Udp, RESOLVER, 54, libc::EACCES);
}

#[test]
fn a_port_that_is_taken_is_told() {
    let mut sandbox = Sandbox::attested();
    let _first = listen(&mut sandbox, Transport::Tcp, NAME, 443).expect("a socket");
    assert_eq!(listen(&mut sandbox, Transport::Tcp, NAME, 443).err(), Some(libc::EADDRINUSE));
}

#[test]
fn init_keeps_no_socket_that_it_passed() {
    let mut sandbox = Sandbox::attested();
    drop(listen(&mut sandbox, Transport::Tcp, NAME, 443).expect("a socket"));
    listen(&mut sandbox, Transport::Tcp, NAME, 443).expect("nobody has it any more");
}

#[test]
fn a_port_of_the_task_is_dialled() {
    let mut sandbox = Sandbox::attested();
    let script = "import socket; s = socket.create_server(('127.0.0.1', 8080)); print('up', flush=True); c, _ = s.accept(); c.sendall(b'hi')";
    let order = sandbox.order(&["python3", "-Sc", script]);
    let mut server = sandbox.start(&order);
    server.await_output("up\n");
    sandbox.request(&Request::Dial { id: 9, port: 8080 });
    let (reply, mut descriptors) = sandbox.reply_with();
    assert_eq!(reply, Reply::Dialled { id: 9, errno: 0 });
    let mut stream = TcpStream::from(descriptors.remove(0));
    stream.set_nonblocking(false).expect("it waits");
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("read");
    assert_eq!(said, "hi");
    sandbox.finish(server);
    sandbox.request(&Request::Dial { id: 10, port: 8080 });
    let mut refused = TcpStream::from(sandbox.reply_with().1.remove(0));
    refused.set_nonblocking(false).expect("it waits");
    let error = refused.read(&mut [0]).expect_err("nobody listens any more");
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
}
