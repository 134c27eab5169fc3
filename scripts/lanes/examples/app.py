"""A command as a component: tells its words, a line of its input, a file, and what a server answers."""

# Modules are taken along as they are when the component is made; this one is otherwise loaded when wanted.
import encodings.idna  # noqa: F401
import socket
import sys

from wit_world import exports


class Run(exports.Run):
    def run(self):
        port, path = sys.argv[1:]
        print("words", port.isdigit(), path)
        print("input", sys.stdin.readline().strip())
        with open(path) as file:
            print("file", file.readline().strip())
        try:
            with socket.create_connection(("localhost", int(port))) as server:
                server.sendall(b"ping")
                print("answer", server.recv(64).decode())
        except OSError as error:
            print("no answer")
            print(error, file=sys.stderr)
