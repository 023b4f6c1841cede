# What the attacks are made of. Runs in the attacker's namespace; the names in capitals and those of addresses are
# defined before. `m` is the payload of the case at hand, `nonce` a small option that carries its mark.
import ctypes, socket, struct, subprocess
from scapy.all import *
from scapy.contrib.mpls import MPLS
from scapy.contrib.igmp import IGMP
conf.verb = 0
kernel = ctypes.CDLL(None, use_errno=True)

def enter(name):
    with open('/run/netns/' + name) as there:
        if kernel.setns(there.fileno(), 0):
            raise OSError(ctypes.get_errno(), 'enter ' + name)

def inside(name, make):
    """What `make` makes in another namespace; sockets stay there."""
    enter(name)
    try:
        return make()
    finally:
        enter(HERE)

def udp_from(address, port):
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((address, port))
    return s

def say(source, to, port, payload):
    udp_from(source, 0).sendto(payload.load, (to, port))

def sh(line):
    subprocess.run(line.split(), check=True)

wire = conf.L2socket(iface='eth0')
wire_ext = inside(EXT, lambda: conf.L2socket(iface='eth0'))
def tx(frame): wire.send(frame)
def tx_ext(frame): wire_ext.send(frame)

unfinished = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
unfinished.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
unfinished.bind(('eth0', 0))
def forge(frame, start, offset):
    """Leaves two bytes of the frame to the kernel, as if they were its checksum (struct virtio_net_hdr)."""
    unfinished.send(struct.pack('=BBHHHH', 1, 0, 0, 0, start, offset) + bytes(frame))

E = Ether(src=mac, dst=gw)
V = Ether(src=mac, dst=victim_mac)
B = Ether(src=mac, dst='ff:ff:ff:ff:ff:ff')
M = Ether(src=mac, dst='33:33:00:00:00:01')
R = Ether(src=mac, dst='33:33:00:00:00:02')
A = Ether(src=mac, dst='ff:ff:ff:ff:ff:ff', type=0x0806)
O = Ether(src=ext_mac, dst=node_mac)
alert = IPv6ExtHdrHopByHop(options=[RouterAlert()])
u9, u10 = UDP(sport=4000, dport=9), UDP(sport=4001, dport=10)
def udp0(port): return UDP(sport=4000, dport=port, chksum=0)
def svc(port): return UDP(sport=int(RandNum(20000, 60000)), dport=port)
def na(target): return ICMPv6ND_NA(R=0, S=0, O=1, tgt=target) / ICMPv6NDOptDstLLAddr(lladdr=mac)
def about(address):
    """An option that an address is the beginning of, as long as that says, 32 bytes behind a header of 24 and one option."""
    option = inet_pton(socket.AF_INET6, address)
    return Raw(option.ljust(option[1] * 8, b'\0'))
def arp(header='000108000604', **fields):
    """An ARP request of its own address, to all, with another header, or fields, and the mark behind it."""
    own = dict(op=1, psrc=me4, hwsrc=mac, pdst=victim4) | fields
    return Raw(bytes.fromhex(header) + bytes(ARP(**own))[6:]) / m
def checksum6(datagram): return UDP(bytes(IPv6(src=me6, dst=ext6) / datagram)[40:]).chksum
def piece(ident, offset, more, data):
    flags = 'MF' if more else 0
    tx(E / IP(src=me4, dst=ext4, id=ident, frag=offset, flags=flags, proto=17) / Raw(data))

def marked(network):
    """An address of the network whose last bytes are the case's mark: for what has no room for it elsewhere."""
    return inet_ntop(socket.AF_INET6, inet_pton(socket.AF_INET6, network)[:10] + marker)

def mark(n):
    global m, nonce, marker
    marker = b'~%04x~' % n
    m, nonce = Raw(marker + b'.' * 58), Raw(b'\x0e\x01' + marker)
