"""Network: reach the run's own listeners on the host's loopback, by any family and any call."""

# %% tcp: connect to the listener on 127.0.0.1
must_fail("tcp", socket.create_connection, ("127.0.0.1", target["tcp"]), 2)

# %% tcp6: the same over ::1
must_fail("tcp6", socket.create_connection, ("::1", target["tcp6"]), 2)

# %% tcp-mapped: the IPv4 listener by its address mapped into IPv6
must_fail("mapped", socket.create_connection, ("::ffff:127.0.0.1", target["tcp"]), 2)

# %% tcp-any-address: 0.0.0.0 is this host to the kernel
must_fail("any", socket.create_connection, ("0.0.0.0", target["tcp"]), 2)

# %% tcp-by-number: no library, the bare call and a sockaddr of our own
for family, size in ((2, 16), (10, 28)):
    must_refuse(f"socket({family})", 41, family, 1, 0)

# %% tcp-over-a-unix-socket: turn one end of a socketpair to an internet address
ours, theirs = socket.socketpair()
address = struct.pack("=HH4s8x", 2, socket.htons(target["tcp"]), bytes((127, 0, 0, 1)))
must_refuse("connect", 42, ours.fileno(), address, len(address))

# %% tcp-by-the-channel: turn the channel itself to the listener
address = struct.pack("=HH4s8x", 2, socket.htons(target["tcp"]), bytes((127, 0, 0, 1)))
must_refuse("connect", 42, CHANNEL, address, len(address))

# %% tcp-unspecified-family: dissolve the channel's association first, then connect it anew
must_refuse("AF_UNSPEC", 42, CHANNEL, struct.pack("=H14x", 0), 16)

# %% udp: send a datagram to the listener
must_fail("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", target["udp"])))

# %% udp-over-a-unix-socket: an internet address in sendto of a unix socket
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
address = struct.pack("=HH4s8x", 2, socket.htons(target["udp"]), bytes((127, 0, 0, 1)))
must_refuse("sendto", 44, ours.fileno(), b"x", 1, 0, address, len(address))

# %% icmp: raw and ping sockets
for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
    must_fail("icmp", socket.socket, socket.AF_INET, kind, socket.IPPROTO_ICMP)

# %% name-lookup: ask a resolver, by the library that opens its own sockets
must_fail("lookup", socket.getaddrinfo, "canary.invalid", 80)

# %% http: the client of the standard library
import urllib.request
must_fail("http", urllib.request.urlopen, f"http://127.0.0.1:{target['tcp']}/", timeout=2)

# %% asyncio: connections of an event loop
import asyncio
must_fail("asyncio", lambda: asyncio.run(asyncio.open_connection("127.0.0.1", target["tcp"])))

# %% every-family: each address family of the kernel, stream, datagram, raw and sequenced
made = [(family, kind) for family in range(48) for kind in (1, 2, 3, 5) if not isinstance(call(41, family, kind, 0), str)]
pwn(made) if made else print("none of", 48 * 4)

# %% every-pair: socketpair of every family but AF_UNIX
pair = ctypes.create_string_buffer(8)
made = [family for family in range(48) if family != 1 and not isinstance(call(53, family, 2, 0, pair), str)]
pwn(made) if made else print("none")

# %% abstract-stream: the host's abstract socket, from an unconnected end
ours, theirs = socket.socketpair()
must_fail("an end that is connected", ours.connect, "\0" + target["abstract"])
must_fail("a new one", lambda: socket.socket(socket.AF_UNIX).connect("\0" + target["abstract"]))

# %% abstract-datagram: a pair of datagram sockets may send to any address, by a call that is allowed
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
must_fail("abstract", ours.sendto, b"x", "\0" + target["abstract_datagram"])

# %% unix-path: the host's socket in the file system
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
must_fail("path", ours.sendto, b"x", target["unix"])

# %% other-jail-by-name: a datagram to every abstract name that another jail could have bound
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
for name in ("\0peer", "\x0000001", "/tmp/peer"):
    must_fail(repr(name), ours.sendto, b"x", name)

# %% listen: wait for somebody from outside
ours, theirs = socket.socketpair()
must_fail("bind", ours.bind, "\0backdoor")
must_fail("listen", ours.listen)
must_refuse("accept4", 288, ours.fileno(), 0, 0, 0)

# %% interfaces: list and raise interfaces through the channel's descriptor
for request in (0x8912, 0x8913, 0x8914, 0x8933, 0x89F0):
    must_refuse(hex(request), 16, CHANNEL, request, bytes(1024))

# %% bind-to-device: options of a socket
must_refuse("SO_BINDTODEVICE", 54, CHANNEL, 1, 25, b"lo\0", 3)
must_refuse("SO_PASSCRED", 54, CHANNEL, 1, 16, struct.pack("i", 1), 4)

# %% message-calls: sendmsg and sendmmsg carry addresses and descriptors
ours, theirs = socket.socketpair()
must_fail("sendmsg", ours.sendmsg, [b"x"], [], 0, "\0" + target["abstract"])
must_fail("descriptor", socket.send_fds, ours, [b"x"], [0])
must_refuse("sendmmsg", 307, ours.fileno(), bytes(64), 1, 0)

# %% uring-socket: sockets that seccomp does not see, by a ring
must_refuse("io_uring_setup", 425, 8, bytes(120))

# %% netlink: raise the loopback by a message to the kernel
must_fail("netlink", socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 0)

# %% who-is-there: credentials and a process descriptor of whoever holds the channel's other end
for option in (17, 31, 59, 77):
    must_refuse(f"option {option}", 55, CHANNEL, 1, option, bytes(64), struct.pack("i", 64))
