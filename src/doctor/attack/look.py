# Files, processes, kernel knobs, devices, the network and system calls: what takes nothing but an attempt.
import ctypes, fcntl, glob, platform, resource, signal, socket, stat, struct, subprocess, threading, time

CANARIES = PARAMETERS['canaries']
HOME = os.environ.get('HOME', '/')


# Marks for the sandbox beside this one and for the next: neither may find any.
BEGUN = time.monotonic()
MARKED = set()
for place in ('/tmp', '/dev/shm', '.', HOME, '/run', '/dev/mqueue', '/var/tmp'):
    try:
        with open(os.path.join(place, 'mark-' + PARAMETERS['word']), 'w') as mark:
            mark.write(PARAMETERS['word'])
        MARKED.add(place)
    except OSError:
        pass
# A System V segment, open to every user.
if MARKED >= {'/tmp', '/dev/shm', '.', HOME} and ctypes.CDLL(None).shmget(0x41, 4096, 0o1666) >= 0:
    print('@marked', flush=True)


def write_to(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


# Files.

@check('FS-01', 'read-only root')
def _(tally):
    for place in '/ /etc /usr /bin /lib /var /root /home /opt /srv /mnt /.aegis'.split():
        if os.path.isdir(place):
            tally.refused(place, lambda: write_to(place.rstrip('/') + '/.aegis-mark'))
    write_to('/tmp/.aegis-mark')


@check('FS-02', 'nosuid,nodev on every writable mount')
def _(tally):
    for line in open('/proc/self/mounts'):
        place = line.split()[1]
        if not os.path.isdir(place) or not os.access(place, os.W_OK):
            continue
        flags = os.statvfs(place).f_flag
        if not flags & os.ST_NOSUID or not flags & 4:
            tally.breach('%s is mounted %s' % (place, line.split()[3]))
        else:
            tally.stopped('mount flags')


@check('FS-05', 'own mount namespace')
def _(tally):
    ways = ['', '/host', '/proc/1/root', '/proc/self/root', '/proc/self/cwd/../../..', '/.aegis/../..', '/proc/1/cwd/../..']
    for path in CANARIES:
        for way in ways:
            try:
                seen = content(way + path, 200)
            except OSError as error:
                tally.stopped(errno.errorcode[error.errno])
                continue
            tally.breach(way + path) if PARAMETERS['word'].encode() in seen else tally.stopped('another file')


@check('FS-09', 'own mount namespace')
def _(tally):
    os.symlink('/etc/passwd', '/tmp/link')
    tally.refused('/etc/passwd', lambda: os.close(os.open('/tmp/link', os.O_WRONLY | os.O_APPEND)))
    for number, path in enumerate(CANARIES):
        for target in (path, '../../../../../..' + path):
            link = '/tmp/link-%d-%d' % (number, len(target))
            os.symlink(target, link)
            tally.refused(path, lambda: content(link))


@check('FS-10', 'no-new-privileges, nosuid')
def _(tally):
    subprocess.run(['cp', '/bin/sh', '/tmp/s'], check=True)
    os.chmod('/tmp/s', 0o4755)
    done = subprocess.run(['/tmp/s', '-p', '-c', 'id -u'], capture_output=True, text=True, timeout=5)
    uid = done.stdout.strip()
    tally.breach('a setuid shell runs as uid %s' % uid) if uid in ('', '0') else tally.stopped('uid stays %s' % uid)
    done = subprocess.run(['su', 'root', '-c', 'id -u'], capture_output=True, text=True, timeout=5, stdin=subprocess.DEVNULL)
    tally.breach('su gives root') if done.stdout.strip() == '0' else tally.stopped('su exits %d' % done.returncode)


@check('FS-12', 'read-only bind')
def _(tally):
    for path in ('/etc/resolv.conf', '/etc/hosts', '/etc/hostname'):
        content(path)
        tally.refused(path, lambda: os.close(os.open(path, os.O_WRONLY | os.O_APPEND)))


@check('FS-13', 'files in memory are sparse or refused')
def _(tally):
    path = os.path.join(os.getcwd(), 'sparse')
    try:
        with open(path, 'wb') as file:
            file.truncate(4 << 40)
        blocks = os.stat(path).st_blocks * 512
        tally.breach('%d bytes taken' % blocks) if blocks > 65536 else tally.stopped('no blocks')
    except OSError as error:
        tally.stopped(errno.errorcode[error.errno])
    descriptor = os.open(path + '-2', os.O_CREAT | os.O_WRONLY)
    tally.refused('1 TiB allocated', lambda: os.posix_fallocate(descriptor, 0, 1 << 40))
    for name in (path, path + '-2'):
        os.path.exists(name) and os.unlink(name)


@check('FS-15', 'mount table')
def _(tally):
    for line in open('/proc/self/mountinfo'):
        told = [it for it in ('docker.sock', 'containerd.sock', ' /root ', ' /home/', PARAMETERS['state']) if it in line]
        tally.breach('%s in the mount table' % told[0].strip()) if told else tally.stopped('nothing told')


# Processes.

def status(path='/proc/self/status'):
    return dict((name, value.strip()) for name, _, value in (line.partition(':') for line in open(path)))


@check('PL-01', 'own uid')
def _(tally):
    for name, ids in (('uid', os.getresuid()), ('gid', os.getresgid()), ('groups', os.getgroups())):
        for it in ids:
            tally.breach('%s %d' % (name, it)) if it < 1000 else tally.stopped('%s %d' % (name, it))


@check('PL-02', 'no capability, no-new-privileges, filter')
def _(tally):
    for path in ('/proc/self/status', '/proc/1/status'):
        seen = status(path)
        for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'):
            tally.breach('%s %s' % (name, seen[name])) if int(seen[name], 16) else tally.stopped('empty set')
        for name, value in (('NoNewPrivs', '1'), ('Seccomp', '2')):
            tally.stopped('in force') if seen[name] == value else tally.breach('%s is %s' % (name, seen[name]))


@check('PL-03', 'own pid namespace')
def _(tally):
    processes = glob.glob('/proc/[0-9]*/comm')
    for path in processes:
        try:
            name = open(path).read().strip()
        except OSError:
            continue
        tally.breach(name) if name in ('dockerd', 'containerd', 'aegis', 'systemd', 'init') else tally.stopped('its own')
    if len(processes) > 20:
        tally.breach('%d processes' % len(processes))


@check('PL-12', 'hard limits')
def _(tally):
    for name, most in (('NOFILE', 65536), ('CORE', 0), ('FSIZE', 1 << 40), ('MEMLOCK', 1 << 26), ('MSGQUEUE', 1 << 22)):
        # Python has no name for the last one.
        number = getattr(resource, 'RLIMIT_' + name, 12)
        hard = resource.getrlimit(number)[1]
        tally.breach('%s %d' % (name, hard)) if hard < 0 or hard > most else tally.stopped('finite')


@check('PL-15', 'no capability')
def _(tally):
    tally.refused('oom_score_adj -500', lambda: os.write(os.open('/proc/self/oom_score_adj', os.O_WRONLY), b'-500'))
    tally.refused('nice -5', lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
    tally.refused('SCHED_FIFO', lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)))

    def raise_limit():
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard + 1, hard + 1))
        except ValueError:
            # Python's own word for EPERM.
            raise PermissionError(errno.EPERM, 'limit')
    tally.refused('RLIMIT_NOFILE', raise_limit)


@check('PL-16', 'empty standard input')
def _(tally):
    ready, _, _ = __import__('select').select([0], [], [], 2)
    tally.stopped('end of file') if ready and not os.read(0, 1) else tally.breach('standard input is open')


@check('PL-17', 'descriptors closed')
def _(tally):
    for descriptor, leads in DESCRIPTORS:
        own = descriptor <= 2 or leads == os.path.abspath(__file__)
        tally.stopped('standard stream') if own else tally.breach('descriptor %d leads to %s' % (descriptor, leads))
    try:
        os.listdir('/proc/1/fd')
        tally.breach('descriptors of PID 1')
    except OSError as error:
        tally.stopped(errno.errorcode[error.errno])


@check('PL-19', 'own pid namespace')
def _(tally):
    for number in (1, 2, 3, 13, 15):
        signal.signal(number, signal.SIG_IGN)
        try:
            os.kill(-1, number)
            tally.stopped('reached its own only')
        except OSError as error:
            tally.stopped(errno.errorcode[error.errno])
    try:
        os.kill(1, 9)
        time.sleep(0.1)
    except OSError as error:
        tally.stopped(errno.errorcode[error.errno])
    # Whoever reads this line was not hit; the host looks after its own.
    os.kill(1, 0)
    tally.stopped('PID 1 lives')


@check('PL-20', 'system call filter')
def _(tally):
    _, terminal = os.openpty()
    tally.refused('TIOCSTI', lambda: fcntl.ioctl(terminal, 0x5412, b'x'), ('EPERM', 'EACCES'))
    tally.refused('TIOCLINUX', lambda: fcntl.ioctl(terminal, 0x541C, b'\x03'), ('EPERM', 'EACCES', 'ENOTTY'))
    tally.refused('TIOCCONS', lambda: fcntl.ioctl(terminal, 0x541D), ('EPERM', 'EACCES'))


# The kernel's surface.

LIBRARY = ctypes.CDLL(None, use_errno=True)
PAGE = ctypes.create_string_buffer(4096)


def in_child(call):
    """Makes a call in a child of its own and gives 'ok', an errno's name or a signal's."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.set_errno(0)
        result = call()
        number = ctypes.get_errno()
        os.write(writer, (errno.errorcode.get(number, str(number)) if result == -1 and number else 'ok').encode())
        os._exit(0)
    os.close(writer)
    said = os.read(reader, 64).decode()
    os.close(reader)
    _, ended = os.waitpid(child, 0)
    return signal.Signals(os.WTERMSIG(ended)).name if os.WIFSIGNALED(ended) else said


def number(value):
    """An argument as the table writes it."""
    if value is None:
        return ctypes.c_void_p(ctypes.addressof(PAGE))
    if isinstance(value, str):
        return ctypes.c_char_p(value.encode())
    return ctypes.c_long(value)


def calls(name):
    """The check's calls, as the host's table has them: a name, a number, arguments."""
    def run(tally):
        if platform.machine() != 'x86_64':
            raise OSError('the table of calls is that of x86_64')
        if in_child(lambda: LIBRARY.syscall(39)) != 'ok':
            raise OSError('getpid does not answer: the calls prove nothing')
        for call, numbered, arguments in PARAMETERS['calls'][name]:
            def make():
                ctypes.memset(PAGE, 0, 4096)
                result = LIBRARY.syscall(ctypes.c_long(numbered), *[number(it) for it in arguments])
                if call.startswith('clone') and result == 0:
                    os._exit(0)
                return result
            said = in_child(make)
            if said in ('EPERM', 'EACCES', 'ENOSYS', 'SIGSYS'):
                tally.stopped(said)
            else:
                tally.breach('%s: %s' % (call, said))
    return run


for name in PARAMETERS['calls']:
    check(name, 'system call filter')(calls(name))


@check('KS-24', 'filter on every thread')
def _(tally):
    barrier, leave = threading.Barrier(21), threading.Event()

    def idle():
        barrier.wait(5)
        leave.wait(5)
    threads = [threading.Thread(target=idle) for _ in range(20)]
    for it in threads:
        it.start()
    barrier.wait(5)
    for path in glob.glob('/proc/self/task/*/status'):
        seen = status(path)
        tally.stopped('filtered') if seen['Seccomp'] == '2' else tally.breach('a thread without a filter')
    leave.set()
    child = subprocess.run(['cat', '/proc/self/status'], capture_output=True, text=True, timeout=5).stdout
    tally.stopped('filtered') if 'Seccomp:\t2' in child else tally.breach('a child without a filter')


# /proc and /sys.

def hidden(tally, paths):
    for path in paths.split():
        try:
            if os.path.isdir(path):
                tally.breach(path) if os.listdir(path) else tally.stopped('empty')
            else:
                tally.breach(path) if content(path).strip(b'\0') else tally.stopped('empty')
        except OSError as error:
            tally.stopped({'ENOENT': 'not there'}.get(errno.errorcode[error.errno], errno.errorcode[error.errno]))


@check('PS-01', 'masked')
def _(tally):
    hidden(tally, '''/proc/kcore /proc/keys /proc/timer_list /proc/latency_stats /proc/sched_debug /proc/scsi /proc/acpi
        /proc/asound /proc/kmsg /sys/firmware /sys/devices/virtual/powercap /proc/key-users /proc/kallsyms /proc/modules
        /proc/slabinfo /proc/vmallocinfo /proc/iomem''')


@check('PS-02', 'read-only')
def _(tally):
    paths = '''/proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/drop_caches
        /proc/sys/net/ipv4/ip_forward /sys/kernel/uevent_helper /sys/fs/cgroup/release_agent /proc/irq/default_smp_affinity
        /sys/kernel/mm/transparent_hugepage/enabled /sys/power/state /sys/fs/cgroup/cgroup.procs'''.split()
    paths += glob.glob('/sys/fs/cgroup/*/release_agent') + glob.glob('/sys/fs/cgroup/*/cgroup.procs')
    for path in paths:
        # A mask over a file is `/dev/null`, which anybody may open and nobody hears.
        if os.path.exists(path) and not stat.S_ISCHR(os.stat(path).st_mode):
            tally.refused(path, lambda: os.close(os.open(path, os.O_WRONLY)))
        else:
            tally.stopped('masked' if os.path.exists(path) else 'not there')


@check('PS-05', 'masked')
def _(tally):
    hidden(tally, '''/sys/kernel/debug /sys/kernel/tracing /sys/kernel/security /sys/fs/bpf /sys/fs/pstore
        /sys/devices/virtual/dmi/id/product_uuid /sys/class/dmi/id/product_serial /proc/kallsyms''')
    for name in os.listdir('/sys/class/net'):
        tally.stopped('own network namespace') if name == 'lo' else tally.breach('interface %s' % name)


@check('PS-06', 'masked')
def _(tally):
    hidden(tally, '/proc/cmdline /proc/config.gz /proc/interrupts /proc/softirqs /proc/schedstat')


@check('PS-07', 'an environment of its own')
def _(tally):
    words = ('token', 'secret', 'passw', 'postgres', 'database_url', 'docker_host', 'ssh_auth', 'aws_')
    for path in glob.glob('/proc/[0-9]*/environ'):
        try:
            names = [it.partition(b'=')[0].decode().lower() for it in open(path, 'rb').read().split(b'\0')]
        except OSError as error:
            tally.stopped(errno.errorcode[error.errno])
            continue
        told = [name for name in names if any(word in name for word in words)]
        tally.breach('%s in %s' % (told[0], path)) if told else tally.stopped('nothing told')


# Devices.

@check('DV-01', 'the standard devices only')
def _(tally):
    usual = 'console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero'.split()
    for name in os.listdir('/dev'):
        tally.stopped('standard') if name in usual else tally.breach('/dev/%s' % name)


@check('DV-02', 'not there')
def _(tally):
    for name in 'vda sda nvme0n1 kvm fuse net/tun vsock userfaultfd kmsg mem loop0 loop-control'.split():
        tally.breach('/dev/%s' % name) if os.path.lexists('/dev/' + name) else tally.stopped('not there')
    if not os.path.exists('/dev/null'):
        raise OSError('/dev/null is not there either')


@check('DV-05', 'no capability, system call filter')
def _(tally):
    for kind, name in ((stat.S_IFBLK, 'block'), (stat.S_IFCHR, 'character')):
        tally.refused(name, lambda: os.mknod('/tmp/node-' + name, kind | 0o600, os.makedev(1, 1)), ('EPERM', 'EACCES'))


# The network.

@check('NW-01', 'own network namespace')
def _(tally):
    for name in os.listdir('/sys/class/net'):
        tally.stopped('loopback') if name == 'lo' else tally.breach('interface %s' % name)
    for line in open('/proc/net/route').read().splitlines()[1:]:
        tally.breach('route %s' % line.split()[:2])
    if os.path.exists('/proc/net/if_inet6'):
        for line in open('/proc/net/if_inet6'):
            tally.stopped('loopback') if line.split()[5] == 'lo' else tally.breach('IPv6 %s' % line.split()[5])
    tally.stopped('no route')


def reach(tally, addresses):
    """Connects and sends to every address; the host's canary would hear the word."""
    inside = socket.create_server(('127.0.0.1', 0))
    socket.create_connection(inside.getsockname(), 2).close()
    word = PARAMETERS['word'].encode()
    for address in addresses:
        family = socket.AF_INET6 if ':' in address else socket.AF_INET
        for port in (PARAMETERS['port'], 80, 22, 2375):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(family, kind) as it:
                    it.settimeout(1)
                    try:
                        it.connect((address, port))
                        it.send(word)
                    except OSError as error:
                        tally.stopped(errno.errorcode.get(error.errno, 'timed out'))
                        continue
                    # Loopback takes a datagram that nobody is there to read; the canary says whether it was heard.
                    own = address.startswith('127.') or address in ('::1', '0.0.0.0', '::')
                    if kind == socket.SOCK_STREAM or not own:
                        tally.breach('%s port %d' % (address, port))
                    else:
                        tally.stopped('own loopback')


@check('NW-02', 'no route')
def _(tally):
    usual = '192.0.2.10 10.99.0.1 172.17.0.1 172.18.0.1 169.254.169.254 127.0.0.1 100.100.100.200'.split()
    reach(tally, [it for it in PARAMETERS['addresses'] if ':' not in it] + usual)


@check('NW-03', 'no route')
def _(tally):
    usual = '2001:db8::10 ::ffff:192.0.2.10 ::ffff:172.17.0.1 ::1 fd00:ec2::254 64:ff9b::7f00:1'.split()
    reach(tally, [it for it in PARAMETERS['addresses'] if ':' in it] + usual)


@check('NW-04', 'no resolver, no route')
def _(tally):
    for family in (0, socket.AF_INET, socket.AF_INET6):
        try:
            tally.breach('resolved: %s' % socket.getaddrinfo('x1.exfil.test', 80, family)[0][4][0])
        except socket.gaierror as error:
            tally.stopped('EAI %d' % error.errno)
    query = b'\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02x2\x05exfil\x04test\0\0\x01\0\x01'
    for address in ('127.0.0.53', '127.0.0.11', '192.0.2.53'):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
            it.settimeout(0.2)
            try:
                it.sendto(query, (address, 53))
                tally.breach('%s answers: %r' % (address, it.recv(512)))
            except OSError as error:
                tally.stopped(errno.errorcode.get(error.errno, 'no answer'))


@check('NW-05', 'not there')
def _(tally):
    for path in '''/var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock /run/podman/podman.sock
            /run/dbus/system_bus_socket /.aegis/control.sock /run/aegis/aegis.sock'''.split():
        tally.breach(path) if os.path.lexists(path) else tally.stopped('not there')
    for place, directories, files in os.walk('/'):
        if place == '/':
            directories.remove('proc')
        for name in files:
            path = os.path.join(place, name)
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                tally.breach(path)
    tally.stopped('no socket in the tree')


@check('NW-06', 'system call filter')
def _(tally):
    for family, kind, protocol in ((2, 2, 136), (2, 1, 132), (2, 1, 262), (2, 2, 1), (10, 2, 58), (2, 3, 1), (10, 3, 58), (17, 3, 0x300)):
        tally.refused('socket %d %d %d' % (family, kind, protocol), lambda: socket.socket(family, kind, protocol).close(),
                      ('EPERM', 'EACCES', 'ENOSYS'))


# The sandbox beside this one looks for the marks while this one is up.
time.sleep(max(0, BEGUN + PARAMETERS['beside_s'] - time.monotonic()))
print('@end', flush=True)
