# More memory than the sandbox has.
print('@end', flush=True)
kept = [bytearray(64 << 20) for _ in range(256)]
print('@probe\tPL-10\tbreach\t%d MiB were given' % (len(kept) * 64), flush=True)
