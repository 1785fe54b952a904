# What the stages of the attack share. Every attempt is made for real; a denial counts only because it was.
import errno, json, os

# Before anything here opens one of its own; the listing's own is in /proc.
DESCRIPTORS = [(int(it), os.readlink('/proc/self/fd/' + it)) for it in os.listdir('/proc/self/fd') if os.path.lexists('/proc/self/fd/' + it)]

PARAMETERS = json.load(open('parameters.json'))


def say(check, result, by):
    print('@probe\t%s\t%s\t%s' % (check, result, ' '.join(str(by).split())[:300]), flush=True)


class Tally:
    """What several attempts of one check came to."""

    def __init__(self):
        self.breaches, self.answers, self.count = [], {}, 0

    def stopped(self, by):
        self.count += 1
        self.answers[by] = self.answers.get(by, 0) + 1

    def breach(self, what):
        self.count += 1
        self.breaches.append(str(what))

    def refused(self, what, attempt, accept=()):
        """Makes an attempt that must fail."""
        try:
            attempt()
        except OSError as error:
            name = errno.errorcode.get(error.errno, str(error.errno or error))
            if accept and name not in accept:
                self.breach('%s: %s' % (what, name))
            else:
                self.stopped(name)
        else:
            self.breach(what)

    def __str__(self):
        told = ['%s %s' % (by, count) for by, count in sorted(self.answers.items(), key=lambda it: -it[1])]
        return '%d attempts: %s' % (self.count, ', '.join(told[:5]))


def check(name, wall=''):
    """Runs a function as a check: it fills a tally, or raises when it could not try."""
    def run(function):
        if name not in PARAMETERS['checks']:
            return function
        tally = Tally()
        try:
            function(tally)
        except BaseException as error:
            say(name, 'not_tried', '%s: %s' % (type(error).__name__, error))
            return function
        if tally.breaches:
            say(name, 'breach', '; '.join(tally.breaches[:5]))
        elif not tally.count:
            say(name, 'not_tried', 'no attempt was made')
        else:
            say(name, 'stopped', '%s (%s)' % (wall, tally) if wall else tally)
        return function
    return run


def content(path, size=16):
    """The first bytes of a file; nothing where it cannot be read. Never waits."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        return os.read(descriptor, size)
    finally:
        os.close(descriptor)
