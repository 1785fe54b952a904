# Beside the first sandbox, at the same time: looks for what that one leaves in every place that two could share.
import time

MARK = 'mark-' + PARAMETERS['word']


@check('FS-07', 'namespaces and mounts of its own')
def _(tally):
    begun = time.monotonic()
    while time.monotonic() - begun < PARAMETERS['beside_s']:
        for place in ('/tmp', '/dev/shm', os.getcwd(), os.environ.get('HOME', '/'), '/run', '/dev/mqueue', '/var/tmp'):
            tally.breach(place) if os.path.lexists(os.path.join(place, MARK)) else tally.stopped('no mark')
        for kind in ('shm', 'sem', 'msg'):
            lines = open('/proc/sysvipc/' + kind).read().splitlines()[1:]
            tally.breach('System V %s' % kind) if lines else tally.stopped('no System V object')
        time.sleep(0.2)


print('@end', flush=True)
