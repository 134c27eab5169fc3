"""The vsock devices of machines: the half of each that QEMU leaves to another process (QEMU's
docs/interop/vhost-user.rst), with Firecracker's way of handing connections to Unix sockets behind it.

`vhost_vsock.py SOCKET` serves whoever connects to SOCKET and sends a byte with three descriptors: the
socket that QEMU speaks on, the one that listens for connections into the machine, and the folder that
has it as `vsock`. It is one process for all, since a machine of Firecracker's is one process, and leaves
none behind that nobody awaits.

Of virtio's sockets (virtio 1.2, 5.10) it has streams. A connection to Firecracker's socket says
`CONNECT PORT`; one of the machine's to PORT of its host is made at that socket's path, `_PORT`. As with
Firecracker (src/vmm/src/devices/virtio/vsock), what the machine has closed in one direction stays open
to the host, and 64 KiB are on their way to the host at most. A machine that breaks the protocol loses
its device, which is told on standard error.
"""
import array, mmap, os, select, socket, struct, sys, threading, traceback

HOST, GUEST = 2, 3
REQUEST, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST = range(1, 8)
STREAM = 1
BOTH = 3
ROOM = 64 << 10
HEADER = struct.Struct("<QQIIIHHIII")
# VIRTIO_F_VERSION_1, and that there are vhost-user's own features, of which one is the device's settings.
FEATURES, PROTOCOL_FEATURES = 1 << 32 | 1 << 30, 1 << 9


class Memory:
    """The machine's, as far as it is shared."""

    def __init__(self):
        self.regions = []

    def set(self, payload, fds):
        for *_, kept in self.regions:
            kept.close()
        self.regions = []
        count, _ = struct.unpack_from("<II", payload)
        for number, fd in zip(range(count), fds, strict=True):
            guest, size, user, offset = struct.unpack_from("<QQQQ", payload, 8 + 32 * number)
            self.regions.append((guest, user, size, offset, mmap.mmap(fd, offset + size)))
            os.close(fd)

    def at(self, address, length, by_user=False):
        """The mapping that an address is in, and where there."""
        for guest, user, size, offset, mapping in self.regions:
            within = address - (user if by_user else guest)
            if 0 <= within and within + length <= size:
                return mapping, offset + within
        raise ValueError(f"{length} bytes at {address:#x} are not the machine's memory")


class Queue:
    """A virtqueue of the simple form (virtio 1.2, 2.7). All numbers are read and written in one piece,
    and the processor keeps the order of what is written."""

    def __init__(self, memory):
        self.memory, self.next, self.kick, self.call, self.parts = memory, 0, None, None, None

    def set(self, descriptors, used, available):
        lengths = (16 * self.size, 6 + 8 * self.size, 6 + 2 * self.size)
        addresses = (descriptors, used, available)
        self.parts = [self.memory.at(at, length, True) for at, length in zip(addresses, lengths)]

    def turn(self, name, fd):
        """Has another descriptor be the one to be told by (`kick`), or to tell by (`call`)."""
        if (before := getattr(self, name)) is not None:
            os.close(before)
        setattr(self, name, fd)

    def is_empty(self):
        if not (self.parts and self.kick is not None):
            return True
        available, at = self.parts[2]
        return struct.unpack_from("@H", available, at + 2)[0] == self.next

    def take(self):
        """The number of the next chain, and its buffers: where each is, and how long."""
        available, at = self.parts[2]
        head, = struct.unpack_from("@H", available, at + 4 + 2 * (self.next % self.size))
        self.next = self.next + 1 & 0xFFFF
        buffers, number, flags = [], head, 1
        descriptors, at = self.parts[0]
        while flags & 1:
            if number >= self.size or len(buffers) > self.size:
                raise ValueError("a chain of descriptors leads astray")
            address, length, flags, following = struct.unpack_from("@QIHH", descriptors, at + 16 * number)
            if flags & 4:
                raise ValueError("a table of descriptors was not offered")
            buffers.append((*self.memory.at(address, length), length))
            number = following
        return head, buffers

    def put_back(self):
        """Has the last chain be the next one again."""
        self.next = self.next - 1 & 0xFFFF

    def give(self, head, written):
        used, at = self.parts[1]
        index, = struct.unpack_from("@H", used, at + 2)
        struct.pack_into("@II", used, at + 4 + 8 * (index % self.size), head, written)
        struct.pack_into("@H", used, at + 2, index + 1 & 0xFFFF)
        if self.call is not None:
            os.write(self.call, struct.pack("@Q", 1))


class Connection:
    def __init__(self, stream, guest_port, host_port):
        self.stream, self.key = stream, (guest_port, host_port)
        stream.setblocking(False)
        # What came of the machine and is not with the host yet, and how much has gone there in all.
        self.held, self.forwarded, self.told = bytearray(), 0, 0
        # What the machine has room for, has taken, and has been sent.
        self.room, self.taken, self.sent = 0, 0, 0
        self.state, self.closed, self.asked = "asked", 0, False

    def credit(self):
        return self.room - (self.sent - self.taken & 0xFFFFFFFF)


class Device:
    """It serves QEMU at `control`, and whoever connects to `door`, to the machine's end."""

    def __init__(self, control, door, folder):
        self.control, self.door, self.folder = control, door, folder
        self.memory = Memory()
        self.queues = [Queue(self.memory) for _ in range(3)]
        # Packets without content that the machine has no buffers for yet, callers that have not said
        # yet whom they call, and connections by their ports.
        self.packets, self.callers, self.connections = [], {}, {}
        self.next_port = 1 << 30

    def serve(self):
        try:
            while True:
                self.step()
        except (EOFError, ConnectionError):
            pass
        except Exception:
            traceback.print_exc()
        finally:
            self.close()

    def close(self):
        self.memory.set(struct.pack("<II", 0, 0), [])
        streams = [stream for stream, _ in self.callers.values()]
        streams += [connection.stream for connection in self.connections.values()]
        for stream in [self.control, self.door, *streams]:
            stream.close()
        queues = [fd for queue in self.queues for fd in (queue.kick, queue.call)]
        for fd in [self.folder, *queues]:
            if fd is not None:
                os.close(fd)

    def step(self):
        interests = {self.control.fileno(): select.POLLIN, self.door.fileno(): select.POLLIN}
        interests |= {fd: select.POLLIN for fd in self.callers}
        interests |= {queue.kick: select.POLLIN for queue in self.queues if queue.kick is not None}
        has_buffers = not self.queues[0].is_empty()
        for connection in self.connections.values():
            wants = select.POLLOUT if connection.held else 0
            if has_buffers and connection.state == "open" and not connection.closed & 1:
                if connection.credit() > 0:
                    wants |= select.POLLIN
                elif not connection.asked:
                    connection.asked = True
                    self.say(connection, CREDIT_REQUEST)
            if wants:
                interests[connection.stream.fileno()] = wants
        poller = select.poll()
        for fd, wants in interests.items():
            poller.register(fd, wants)
        ready = dict(poller.poll())
        if self.control.fileno() in ready:
            self.obey()
        for queue in self.queues:
            if queue.kick in ready:
                os.read(queue.kick, 8)
        for fd in [fd for fd in self.callers if fd in ready]:
            self.hear(fd)
        if self.door.fileno() in ready:
            stream, _ = self.door.accept()
            self.callers[stream.fileno()] = (stream, bytearray())
        while not self.queues[1].is_empty():
            self.receive()
        for connection in list(self.connections.values()):
            what = ready.get(connection.stream.fileno(), 0) if connection.stream.fileno() in interests else 0
            if what & select.POLLOUT or what & (select.POLLERR | select.POLLHUP) and connection.held:
                self.forward(connection)
            if what & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self.read(connection)
        self.flush()

    def obey(self):
        """Does what QEMU asks (vhost-user.rst, "Message types")."""
        head, fds = self.take_fds(12)
        request, _, size = struct.unpack("<III", head)
        payload = b""
        while len(payload) < size:
            payload += self.control.recv(size - len(payload))
        number = struct.unpack_from("<I", payload)[0] if len(payload) >= 4 else 0
        match request:
            case 1:
                self.answer(request, struct.pack("<Q", FEATURES))
            case 15:
                self.answer(request, struct.pack("<Q", PROTOCOL_FEATURES))
            case 24:
                offset, length, _ = struct.unpack_from("<III", payload)
                settings = struct.pack("<Q", GUEST)[offset:offset + length]
                self.answer(request, payload[:12] + settings)
            case 5:
                self.memory.set(payload, fds)
            case 8:
                self.queues[number].size = struct.unpack_from("<I", payload, 4)[0]
            case 9:
                self.queues[number].set(*struct.unpack_from("<QQQ", payload, 8))
            case 10:
                self.queues[number].next = struct.unpack_from("<I", payload, 4)[0]
            case 11:
                queue = self.queues[number]
                queue.turn("kick", None)
                self.answer(request, struct.pack("<II", number, queue.next))
            case 12:
                self.queues[number & 0xFF].turn("kick", fds.pop())
            case 13:
                self.queues[number & 0xFF].turn("call", fds.pop() if fds else None)
            case 2 | 3 | 14 | 16 | 18:
                for fd in fds:
                    os.close(fd)
            case other:
                raise ValueError(f"QEMU asks for {other}, which was not offered")

    def take_fds(self, size):
        data, more, *_ = self.control.recvmsg(size, socket.CMSG_SPACE(32))
        if not data:
            raise EOFError
        fds = array.array("i")
        for _, _, content in more:
            fds.frombytes(content)
        return data, list(fds)

    def answer(self, request, payload):
        self.control.sendall(struct.pack("<III", request, 1 | 4, len(payload)) + payload)

    def hear(self, fd):
        """Reads whom a caller calls, to the end of the line and no further."""
        stream, line = self.callers[fd]
        byte = stream.recv(1)
        line += byte
        if byte and byte != b"\n" and len(line) < 32:
            return
        del self.callers[fd]
        words = line.split()
        if byte != b"\n" or len(words) != 2 or words[0] != b"CONNECT" or not words[1].isdigit():
            stream.close()
            return
        connection = Connection(stream, int(words[1]), self.next_port)
        self.next_port += 1
        self.connections[connection.key] = connection
        self.say(connection, REQUEST)

    def receive(self):
        """Takes a packet of the machine's."""
        head, buffers = self.queues[1].take()
        content = b"".join(mapping[at:at + length] for mapping, at, length in buffers)
        self.queues[1].give(head, 0)
        source, target, guest, host, length, kind, op, flags, room, taken = HEADER.unpack_from(content)
        content = content[HEADER.size:HEADER.size + length]
        if (source, target, kind, len(content)) != (GUEST, HOST, STREAM, length):
            raise ValueError("a packet of the machine's is malformed")
        connection = self.connections.get((guest, host))
        if op == REQUEST and connection is None:
            connection = self.called(guest, host)
        if connection is None:
            if op != RST:
                self.packets.append(self.header(guest, host, RST, 0, 0, 0))
            return
        connection.room, connection.taken, connection.asked = room, taken, False
        self.obey_packet(connection, op, flags, content)

    def called(self, guest, host):
        stream = socket.socket(socket.AF_UNIX)
        try:
            stream.connect(f"/proc/self/fd/{self.folder}/vsock_{host}")
        except OSError:
            return None
        connection = Connection(stream, guest, host)
        self.connections[connection.key] = connection
        return connection

    def obey_packet(self, connection, op, flags, content):
        if op == RST:
            self.forget(connection)
        elif connection.state == "closing":
            # Its host has gone.
            pass
        elif op == REQUEST and connection.state == "asked":
            connection.state = "open"
            self.say(connection, RESPONSE)
        elif op == RESPONSE and connection.state == "asked":
            connection.state = "open"
            connection.held += b"OK %d\n" % connection.key[1]
            connection.forwarded -= len(connection.held)
            self.forward(connection)
        elif op == RW and connection.state == "open":
            connection.held += content
            if len(connection.held) > ROOM:
                raise ValueError("the machine sends what there is no room for")
            self.forward(connection)
        elif op == SHUTDOWN:
            connection.closed |= flags
            self.end_if_over(connection)
        elif op == CREDIT_REQUEST:
            self.say(connection, CREDIT_UPDATE)
        elif op != CREDIT_UPDATE:
            raise ValueError(f"the machine does {op} in the state {connection.state}")

    def forward(self, connection):
        try:
            sent = connection.stream.send(connection.held)
        except BlockingIOError:
            return
        except OSError:
            self.say(connection, RST)
            self.forget(connection)
            return
        del connection.held[:sent]
        connection.forwarded += sent
        if connection.forwarded - connection.told > ROOM // 2:
            self.say(connection, CREDIT_UPDATE)
        self.end_if_over(connection)

    def end_if_over(self, connection):
        if connection.closed & BOTH == BOTH and not connection.held:
            self.say(connection, RST)
            self.forget(connection)

    def forget(self, connection):
        connection.stream.close()
        connection.state = "over"
        self.connections.pop(connection.key, None)

    def read(self, connection):
        """Brings the machine what the host says, as much as a buffer of the machine's takes."""
        if connection.state != "open" or self.packets or self.queues[0].is_empty():
            return
        if connection.credit() <= 0:
            return
        head, buffers = self.queues[0].take()
        room = min(connection.credit(), sum(length for *_, length in buffers) - HEADER.size)
        try:
            content = connection.stream.recv(room)
        except BlockingIOError:
            self.queues[0].put_back()
            return
        except OSError:
            content = b""
        if content:
            connection.sent += len(content)
            self.fill(head, buffers, self.header_of(connection, RW, 0, len(content)) + content)
        else:
            self.queues[0].put_back()
            connection.state = "closing"
            self.say(connection, SHUTDOWN, BOTH)

    def header(self, guest, host, op, flags, length, forwarded):
        return HEADER.pack(HOST, GUEST, host, guest, length, STREAM, op, flags, ROOM, forwarded)

    def header_of(self, connection, op, flags=0, length=0):
        connection.told = connection.forwarded
        return self.header(*connection.key, op, flags, length, connection.forwarded & 0xFFFFFFFF)

    def say(self, connection, op, flags=0):
        self.packets.append(self.header_of(connection, op, flags))

    def flush(self):
        while self.packets and not self.queues[0].is_empty():
            self.fill(*self.queues[0].take(), self.packets.pop(0))

    def fill(self, head, buffers, packet):
        left = packet
        for mapping, at, length in buffers:
            part, left = left[:length], left[length:]
            mapping[at:at + len(part)] = part
        if left:
            raise ValueError("a buffer of the machine's is too small")
        self.queues[0].give(head, len(packet))


def main():
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    os.chmod(sys.argv[1], 0o666)
    listener.listen()
    print("listening", flush=True)
    while True:
        client, _ = listener.accept()
        with client:
            _, fds, *_ = socket.recv_fds(client, 1, 3)
        if len(fds) == 3:
            device = Device(*(socket.socket(fileno=fd) for fd in fds[:2]), fds[2])
            threading.Thread(target=device.serve, daemon=True).start()


if __name__ == "__main__":
    main()
