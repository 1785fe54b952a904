# Bombs: disk, inodes, descriptors, processes. And what the stage before left behind.
import signal, subprocess

HOME = os.environ.get('HOME', '/')
PLACES = ['/tmp', '/dev/shm', '/run', HOME, os.getcwd()]


@check('FS-06', 'a sandbox of its own')
def _(tally):
    mark = 'mark-' + PARAMETERS['word']
    seen = 0
    for place, directories, files in os.walk('/'):
        if place == '/':
            directories.remove('proc')
        seen += len(files)
        if mark in files:
            tally.breach(os.path.join(place, mark))
    tally.stopped('not among %d files' % seen)


def fill(place, most):
    """Writes until the kernel says no; gives bytes and errno."""
    path, block, written = os.path.join(place, 'full'), b'\1' * (1 << 20), 0
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while written <= most:
            written += os.write(descriptor, block)
        return written, None
    except OSError as error:
        return written, errno.errorcode[error.errno]
    finally:
        os.close(descriptor)
        os.unlink(path)


@check('FS-03', 'sized tmpfs')
def _(tally):
    written, said = fill(os.getcwd(), 2 << 30)
    tally.stopped('%s after %d MiB' % (said, written >> 20)) if said else tally.breach('%d bytes' % written)


@check('FS-04', 'sized tmpfs')
def _(tally):
    for place in ('/tmp', '/dev/shm', '/run', HOME):
        written, said = fill(place, 256 << 20)
        tally.stopped('%s after %d MiB' % (said, written >> 20)) if said else tally.breach('%s takes %d bytes' % (place, written))


@check('FS-11', 'inodes of a tmpfs')
def _(tally):
    for place in ('/tmp', '/dev/shm'):
        made = 0
        try:
            for made in range(400000):
                os.close(os.open('%s/i%d' % (place, made), os.O_CREAT | os.O_WRONLY))
            tally.breach('%s takes %d files' % (place, made))
        except OSError as error:
            tally.stopped('%s after %d' % (errno.errorcode[error.errno], made))
        for it in range(made):
            os.unlink('%s/i%d' % (place, it))


@check('RB-07', 'hard limit')
def _(tally):
    taken = []
    try:
        while len(taken) < 200000:
            taken.append(os.dup(0))
        tally.breach('%d descriptors' % len(taken))
    except OSError as error:
        tally.stopped('%s after %d' % (errno.errorcode[error.errno], len(taken)))
    for it in taken:
        os.close(it)


@check('PL-04', 'pids limit')
def _(tally):
    children = []
    try:
        while len(children) < 5000:
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(0)
            children.append(child)
        tally.breach('%d processes' % len(children))
    except OSError as error:
        tally.stopped('%s after %d' % (errno.errorcode[error.errno], len(children)))
    for it in children:
        os.kill(it, signal.SIGKILL)
    for it in children:
        os.waitpid(it, 0)


# Left alive on purpose: the host looks whether it outlives the command.
subprocess.Popen(['sleep', PARAMETERS['survivor']], start_new_session=True, stdin=subprocess.DEVNULL,
                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print('@end', flush=True)
