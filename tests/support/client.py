"""The client of :mod:`forks`: ``client.py SOCKET PYTHON ARGUMENTS...``.

It imports little, as it is started for every program.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    """Have the server run a program; end as it ends."""
    path, python, *args = sys.argv[1:]
    program = args[1:] if args[:1] == ['-u'] else args
    first = program[0] if program else '-'
    if first.startswith('-') and first not in ('-c', '-m'):
        os.execv(python, [python, *args])  # an option that is not known here
    request = dict(args=program, cwd=os.getcwd(), environ=dict(os.environ))
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: server.send(bytes([number])))
    message = json.dumps(request).encode() + b'\n'
    sent = socket.send_fds(server, [message], [0, 1, 2])
    server.sendall(message[sent:])
    status = os.waitstatus_to_exitcode(int(server.recv(16) or b'256'))
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == '__main__':
    main()
