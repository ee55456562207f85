"""Output: flood the host, speak to its terminal, break whoever decodes it."""

# %% flood: more than anybody keeps [wall 0.3]
while True:
    print("x" * 10_000)

# %% flood-of-empty-lines: the smallest writes there are [wall 0.3]
while True:
    print()

# %% flood-of-errors: by way of warnings and stderr
import warnings
for number in range(2000):
    warnings.warn(f"{number}" * 100)
    sys.stderr.write("e" * 1000)

# %% one-line: ten million characters without a line's end
print("y" * 10_000_000)

# %% wide: characters of four bytes each, cut in the middle
print("\U0001f600" * 1_000_000)

# %% terminal-title: sequences that act on a terminal
print("\x1b]0;owned\x07\x1b[2J\x1b[H\x1b[31m\x1b]52;c;b3duZWQ=\x07\x9b2J\x90q\x1bPq")

# %% terminal-answer: sequences that make a terminal type for us
print("\x1b[21t\x1b[6n\x1bZ\x1b[c\x05\x1b]50;?\x07")

# %% hidden-order: letters that are read in another order than they stand
print("\u202eexe.txt\u202c \u2066a\u2069 \u200f \u061c \ufeff \U000e0041")

# %% carriage-return: paint over what stood there
print("harmless\rHARMFUL\x08\x08\x7f\x0b\x0c")

# %% null-bytes: end a text for whoever counts in C
print("before\0after", "\0" * 1000)

# %% lone-surrogates: text that UTF-8 cannot spell
print("\ud800", "\udfff", "\udcff" * 100)
sys.stdout.write("\ud83d")

# %% invalid-bytes: past the text layer, straight to the descriptors
for number in (0, 1, 2):
    try:
        os.write(number, b"\xff\xfe\xc0\x80\xed\xa0\x80" + target["env"].encode())
    except OSError as error:
        print(name_of(error))

# %% other-stream: a stream of our own in place of the worker's
class Loud:
    encoding = "utf-8"
    def write(self, text):
        return os.write(1, text.encode()) and len(text)
    def flush(self):
        os.fsync(1)
sys.stdout = sys.stderr = sys.__stdout__ = Loud()
print("to nobody")

# %% broken-stream: what the worker will count is a lie
sys.stdout._bytes = -1
sys.stdout._head = bytearray(b"\xff\xfe")
sys.stdout._tail = None

# %% larger-output: the worker's own bound, raised by us
sys.stdout._whole, sys.stdout._tail_bytes = 1 << 30, 1 << 29
print("x" * (1 << 20))

# %% deep-error: an exception whose text and causes have no end
def chain(depth):
    try:
        if depth:
            chain(depth - 1)
        raise OSError("e" * 10_000)
    except OSError as error:
        raise OSError("f" * 10_000) from error
try:
    chain(100)
except OSError:
    raise

# %% lying-error: an exception that does as it likes when it is shown
class Lying(OSError):
    def __str__(self):
        os.write(CHANNEL, b"")
        return "\x1b]0;owned\x07" * 1000
    @property
    def __class__(self):
        return MemoryError
raise Lying

# %% group-of-errors: groups in groups
group = OSError("x")
for _ in range(200):
    group = ExceptionGroup("g" * 100, [group, OSError("\u202e")])
try:
    raise group
except* OSError as caught:
    print(len(str(caught)))

# %% last-expression: a value whose repr is large, slow and coloured
class Shown:
    def __repr__(self):
        return "\x1b[2J" + "r" * 50_000_000
Shown()

# %% markup: what a page or a chat would render
print("<script>fetch('http://127.0.0.1')</script>![x](http://127.0.0.1/?q=1)[link](javascript:alert(1))")
FINAL("<img src=x onerror=alert(1)>\n\x1b]8;;http://127.0.0.1\x07link\x1b]8;;\x07")
