"""The channel: forge, break, flood and starve the frames between worker and host."""

# %% huge-length: announce four gigabytes
send_raw(b"\xff\xff\xff\xff" + bytes(1 << 16))
time.sleep(5)

# %% zero-length: a frame of nothing
send_raw(bytes(4))
time.sleep(5)

# %% half-frame: announce more than is sent, and wait [wall 0.3]
send_raw(struct.pack(">I", 1000) + b'{"op":"done"')
time.sleep(1e9)

# %% byte-by-byte: a valid frame, one byte at a time
for byte in frame({"op": "spans", "cell_id": 2, "spans": [[0, 0, 4]]}):
    os.write(CHANNEL, bytes((byte,)))

# %% not-json: bytes that are no text, text that is no JSON
send_raw(frame(b"\xff\xfe\x00\x01"))
time.sleep(5)

# %% not-an-object: a list where an object belongs
send_raw(frame(b'["op","done"]'))
time.sleep(5)

# %% nested: a hundred thousand brackets
send_raw(frame(b'{"op":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))
time.sleep(5)

# %% nested-objects: the same, by objects within the bound of bytes
send_raw(frame(b'{"op":' * 600_000 + b"1" + b"}" * 600_000))
time.sleep(5)

# %% huge-number: an integer of a million digits, and a float that is none
send_raw(frame(b'{"op":"query","id":' + b"9" * 1_000_000 + b',"cell_id":2,"texts":["x"]}'))
time.sleep(5)

# %% infinite-number: numbers that only some readers know
send_raw(frame(b'{"op":"query","id":NaN,"cell_id":Infinity,"texts":["x"]}'))
time.sleep(5)

# %% overflowing-float: 1e999 becomes infinity in silence
send_raw(frame(b'{"op":"query","id":1e999,"cell_id":2,"texts":["x"]}'))
time.sleep(5)

# %% equal-keys: one key twice, for two readers who choose differently
send_raw(frame(b'{"op":"spans","op":"done","cell_id":2,"spans":[]}'))
time.sleep(5)

# %% surrogate-escape: text that the host cannot write down
send_raw(frame(b'{"op":"query","id":9,"cell_id":2,"texts":["\\ud800"]}'))
time.sleep(5)

# %% colliding-keys: a hundred thousand names that cost a reader time
send_raw(frame(b"{" + b",".join(b'"%d":1' % number for number in range(300_000)) + b"}"))
time.sleep(5)

# %% unknown-operation: what no worker asks for
send_raw(frame({"op": "eval", "code": "__import__('os').system('id')"}))
time.sleep(5)

# %% operation-of-another-type: a list, a number, nothing
send_raw(frame({"op": ["query"], "id": 1}))
time.sleep(5)

# %% no-operation: an object without one
send_raw(frame({}))
time.sleep(5)

# %% host-path: a frame that names a file for the host to open
send_raw(frame({"op": "spans", "cell_id": 2, "spans": [], "path": target["file"]}))
time.sleep(5)

# %% model-name: a query that chooses its own model and budget
send_raw(frame({"op": "query", **CALL, "id": 1, "cell_id": 2, "texts": ["x"], "model": "other", "max_tokens": 1 << 50}))
time.sleep(5)

# %% true-as-number: a truth value where a number belongs
send_raw(frame({"op": "query", **CALL, "id": True, "cell_id": 2, "texts": ["x"]}))
time.sleep(5)

# %% early-done: say that the cell is over while it goes on
send_raw(frame({"op": "done", "cell_id": 2, "status": "ok", "error": "", "stdout": "", "stdout_tail": "",
                "stdout_bytes": 0, "final": {"value": "forged"}}))
while True:
    time.sleep(1)

# %% done-twice: a second end, for a cell that does not run
for _ in range(2):
    send_raw(frame({"op": "done", "cell_id": 2, "status": "ok", "error": "", "stdout": "", "stdout_tail": "",
                    "stdout_bytes": 0, "final": None}))

# %% done-for-another: the end of a cell to come
send_raw(frame({"op": "done", "cell_id": 99, "status": "ok", "error": "", "stdout": "", "stdout_tail": "",
                "stdout_bytes": 0, "final": None}))
time.sleep(5)

# %% done-with-more-output: more bytes than may leave, or fewer than were sent
send_raw(frame({"op": "done", "cell_id": 2, "status": "ok", "error": "", "stdout": "x" * 1_000_000,
                "stdout_tail": "", "stdout_bytes": 1, "final": None}))
time.sleep(5)

# %% done-as-killed: a status that is the host's to give
send_raw(frame({"op": "done", "cell_id": 2, "status": "killed", "error": "", "stdout": "", "stdout_tail": "",
                "stdout_bytes": 0, "final": None}))
time.sleep(5)

# %% spans-elsewhere: cite what lies outside of the documents
send_raw(frame({"op": "spans", "cell_id": 2, "spans": [[0, -5, 10]]}))
time.sleep(5)

# %% spans-of-another-document: a document that this session does not have
send_raw(frame({"op": "spans", "cell_id": 2, "spans": [[1 << 40, 0, 1]]}))
time.sleep(5)

# %% spans-by-the-thousand: more passages than any search prints
for _ in range(100):
    send_raw(frame({"op": "spans", "cell_id": 2, "spans": [[0, 0, 4]] * 4096}))
time.sleep(5)

# %% query-from-the-future: a sub-call of a cell that has not begun
send_raw(frame({"op": "query", **CALL, "id": 1, "cell_id": 3, "texts": ["x"]}))
time.sleep(5)

# %% query-replayed: the number of an earlier sub-call once more
llm_query("first")
send_raw(frame({"op": "query", **CALL, "id": 1, "cell_id": 2, "texts": ["again"]}))
time.sleep(5)

# %% queries-at-once: more sub-calls under way than the host takes [wall 5]
for number in range(1, 200):
    send_raw(frame({"op": "query", **CALL, "id": number, "cell_id": 2, "texts": ["x"] * 1024}))
time.sleep(5)

# %% queries-over-budget: sub-calls one after another until the host says no more
for _ in range(3):
    try:
        print(llm_query_batched(["x"] * 1000)[-1])
    except RuntimeError as error:
        print(error)

# %% empty-query: a sub-call without a prompt
send_raw(frame({"op": "query", **CALL, "id": 1, "cell_id": 2, "texts": []}))
time.sleep(5)

# %% large-query: prompts of the largest frame, as fast as they go
for _ in range(8):
    try:
        llm_query("x" * (4 << 20))
    except (ValueError, RuntimeError) as error:
        print(str(error)[:80])
        break
for _ in range(6):
    try:
        llm_query("x" * (3 << 20))
    except RuntimeError as error:
        print(error)

# %% flood-of-frames: valid frames without end [wall 0.3]
flood = frame({"op": "spans", "cell_id": 1, "spans": []})
while True:
    send_raw(flood)

# %% deaf: ask for much and never read a reply [wall 0.3]
for number in range(1, 9):
    send_raw(frame({"op": "query", **CALL, "id": number, "cell_id": 2, "texts": ["p" * 1000] * 1024}))
ctypes.PyDLL(None).pause()

# %% hang-up: close our end
os.close(CHANNEL)
time.sleep(5)

# %% hang-up-one-way: shut down one direction, then the other
ours = socket.socket(fileno=os.dup(CHANNEL))
ours.shutdown(socket.SHUT_RD)
time.sleep(0.05)
ours.shutdown(socket.SHUT_WR)
time.sleep(5)

# %% swapped: another socket under the channel's number [wall 0.5]
ours, theirs = socket.socketpair()
os.dup2(ours.fileno(), CHANNEL)
print("the worker speaks to itself now")

# %% eavesdrop: read the host's replies before the worker does [wall 0.5]
def listen():
    for data in peer_frames():
        print(data[:200])
threading.Thread(target=listen, daemon=True).start()
send_raw(frame({"op": "query", **CALL, "id": 7, "cell_id": 2, "texts": ["one", "two"]}))
time.sleep(1e9)

# %% descriptor-in-a-frame: pass a descriptor to the host along with a byte
ours = socket.socket(fileno=os.dup(CHANNEL))
must_fail("sendmsg", socket.send_fds, ours, [b"\0"], [0])
must_refuse("sendmsg", 46, CHANNEL, bytes(56), 0)

# %% descriptor-from-a-frame: ask for a descriptor in return
ours = socket.socket(fileno=os.dup(CHANNEL))
must_fail("recvmsg", socket.recv_fds, ours, 1, 1)
must_refuse("recvmmsg", 299, CHANNEL, bytes(64), 1, 0, 0)

# %% urgent-byte: a byte out of order
try:
    socket.socket(fileno=os.dup(CHANNEL)).send(b"{", socket.MSG_OOB)
except OSError as error:
    print(name_of(error))

# %% other-descriptors: whatever else we may have inherited
for number in range(1024):
    if number != CHANNEL:
        try:
            kind = os.fstat(number)
        except OSError:
            continue
        if not (stat.S_ISCHR(kind.st_mode) and number < 3):
            pwn(f"{number}: {stat.filemode(kind.st_mode)}")

# %% interrupted-frame: an interrupt in the middle of a send [wall 0.3]
while True:
    search("test", show=False)

# %% own-worker: let the worker's own methods send what it never would
channel = FINAL.__self__._channel
channel._last_id = -(1 << 60)
print(llm_query("negative"))

# %% other-cell: speak for a cell that is over [wall 0.5]
FINAL.__self__.cell_id = 1
try:
    print(llm_query("for the first cell"))
except BaseException as error:
    print(type(error).__name__)
