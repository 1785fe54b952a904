# Deaf to every signal that can be ignored, and busy on more CPUs than it was given.
import signal, time

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_IGN)
print('@end', flush=True)
for _ in range(3):
    if os.fork() == 0:
        break
while True:
    pass
