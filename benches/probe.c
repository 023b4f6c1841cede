/* What Python is too slow for.
 *
 *   probe replay FILE          sends recorded nf_tables batches (each behind its length, u32) and closes
 *   probe packets ROUNDS       the kernel's work on one CPU, each packet from its sender to its receiver
 *   probe rates ROUNDS MILLIS  a client and a server on two CPUs
 *
 * The latter two read from stdin what is compared, a line each, and measure all of it in every round:
 *   NAME POD-NETNS OUTSIDE-NETNS POD-ADDRESS UDP-ADDRESS UDP-PORT TCP-ADDRESS TCP-PORT
 * With `-` as TCP-ADDRESS only first packets are sent, which need not arrive. They print lines:
 *   KIND NAME NANOSECONDS INSTRUCTIONS     for one packet, connection or round trip; 0: not counted
 *   connections-per-second NAME N 0
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what) {
  fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int ok(int result, const char *what) {
  if (result < 0) die(what);
  return result;
}

/* ---- replay */

static int replay(const char *path) {
  static char bytes[64 << 20], answer[1 << 16];
  int file = ok(open(path, O_RDONLY), path);
  ssize_t size = ok(read(file, bytes, sizeof bytes), path);
  int sock = ok(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER), "socket");
  struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
  ok(bind(sock, (void *)&kernel, sizeof kernel), "bind");
  for (ssize_t at = 0; at < size;) {
    uint32_t length;
    memcpy(&length, bytes + at, 4);
    int buffer = 2 * length;
    if (length > 100000)
      ok(setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer), "SO_SNDBUFFORCE");
    ok(sendto(sock, bytes + at + 4, length, 0, (void *)&kernel, sizeof kernel), "sendto");
    at += 4 + length;
    for (ssize_t n; (n = recv(sock, answer, sizeof answer, MSG_DONTWAIT)) > 0;)
      for (struct nlmsghdr *h = (void *)answer; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n))
        if (h->nlmsg_type == NLMSG_ERROR && ((struct nlmsgerr *)NLMSG_DATA(h))->error) {
          errno = -((struct nlmsgerr *)NLMSG_DATA(h))->error;
          die("the kernel refused the batch");
        }
  }
  close(sock); /* waits for a grace period if something was deleted */
  return 0;
}

/* ---- what is compared */

struct subject {
  char name[64], pod[64], outside[64];
  struct in_addr source;
  struct sockaddr_in udp, tcp;
  int with_tcp;
  int raw;                /* in the pod: packets of ever new flows */
  int flow, sink;         /* an established UDP flow, from the pod to the outside */
  int listener, ends[2];  /* the outside's listener, and an open TCP connection, pod's end first */
  uint16_t next_port;
};

static struct subject subjects[128];
static int count;

static void enter(const char *netns) {
  char path[128];
  snprintf(path, sizeof path, "/run/netns/%s", netns);
  int fd = ok(open(path, O_RDONLY | O_CLOEXEC), path);
  ok(setns(fd, CLONE_NEWNET), path);
  close(fd);
}

static void read_subjects(void) {
  char source[32], udp[32], tcp[32];
  int udp_port, tcp_port;
  struct subject *s = subjects;
  while (scanf("%63s %63s %63s %31s %31s %d %31s %d", s->name, s->pod, s->outside, source, udp,
               &udp_port, tcp, &tcp_port) == 8) {
    s->udp.sin_family = s->tcp.sin_family = AF_INET;
    s->udp.sin_port = htons(udp_port), s->tcp.sin_port = htons(tcp_port);
    s->with_tcp = strcmp(tcp, "-") != 0;
    s->next_port = 1024;
    if (!inet_aton(source, &s->source) || !inet_aton(udp, &s->udp.sin_addr) ||
        (s->with_tcp && !inet_aton(tcp, &s->tcp.sin_addr)))
      die("an address");
    if (++s - subjects == 128) break;
  }
  count = s - subjects;
}

static int tcp_socket(int flags) {
  int sock = ok(socket(AF_INET, SOCK_STREAM | flags, 0), "socket"), one = 1;
  ok(setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), "TCP_NODELAY");
  return sock;
}

static int bound(int type, const struct sockaddr_in *to) {
  int sock = ok(socket(AF_INET, type, 0), "socket"), one = 1;
  ok(setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
  ok(bind(sock, (void *)to, sizeof *to), "bind");
  return sock;
}

/* The other end of a connection that has just been made; on one CPU it is there at once. */
static int accepted(int listener) {
  for (int tries = 0; tries < 1000000; tries++) {
    int end = accept4(listener, NULL, NULL, 0);
    if (end >= 0) return end;
    if (errno != EAGAIN) break;
  }
  die("accept: the connection did not arrive");
  return -1;
}

static void transfer(int from, int to) {
  char byte = 'x';
  ok(send(from, &byte, 1, 0), "send");
  if (recv(to, &byte, 1, 0) != 1) die("recv");
}

static void open_subject(struct subject *s) {
  int tiny = 1;
  char byte = 'x';
  struct sockaddr_in from;
  socklen_t length = sizeof from;
  enter(s->outside);
  s->sink = bound(SOCK_DGRAM, &s->udp);
  if (s->with_tcp) {
    s->listener = bound(SOCK_STREAM | SOCK_NONBLOCK, &s->tcp);
    ok(listen(s->listener, 1024), "listen");
  }
  enter(s->pod);
  s->raw = ok(socket(AF_INET, SOCK_RAW, IPPROTO_RAW), "raw socket");
  if (!s->with_tcp) return;
  s->flow = ok(socket(AF_INET, SOCK_DGRAM, 0), "socket");
  ok(connect(s->flow, (void *)&s->udp, sizeof s->udp), "connect");
  struct timeval patience = {.tv_sec = 5};
  ok(setsockopt(s->sink, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "SO_RCVTIMEO");
  ok(setsockopt(s->flow, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "SO_RCVTIMEO");
  for (int n = 0; n < 3; n++) { /* conntrack sees both directions: established and assured */
    ok(send(s->flow, &byte, 1, 0), "send");
    ok(recvfrom(s->sink, &byte, 1, 0, (void *)&from, &length), s->name);
    ok(sendto(s->sink, &byte, 1, 0, (void *)&from, length), "sendto");
    ok(recv(s->flow, &byte, 1, 0), s->name);
  }
  /* From now on nobody reads there: what arrives is dropped by the full socket, each at the same cost. */
  ok(setsockopt(s->sink, SOL_SOCKET, SO_RCVBUF, &tiny, sizeof tiny), "SO_RCVBUF");
  s->ends[0] = tcp_socket(0);
  ok(connect(s->ends[0], (void *)&s->tcp, sizeof s->tcp), s->name);
  s->ends[1] = accepted(s->listener);
  ok(setsockopt(s->ends[1], IPPROTO_TCP, TCP_NODELAY, &tiny, sizeof tiny), "TCP_NODELAY");
}

/* ---- one CPU */

static void first_packet(struct subject *s) {
  struct { struct iphdr ip; struct udphdr udp; char payload[18]; } __attribute__((packed)) p = {
    .ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP,
           .saddr = s->source.s_addr, .daddr = s->udp.sin_addr.s_addr},
    .udp = {.source = htons(s->next_port), .dest = s->udp.sin_port, .len = htons(8 + 18)},
  };
  if (++s->next_port == 0) s->next_port = 1024;
  if (sendto(s->raw, &p, sizeof p, 0, (void *)&s->udp, sizeof s->udp) < 0 && errno != EPERM) die("sendto");
}

static void established(struct subject *s) {
  char payload[18] = {0};
  ok(send(s->flow, payload, sizeof payload, 0), "send");
}

static void connection(struct subject *s) {
  int near = tcp_socket(SOCK_NONBLOCK);
  if (connect(near, (void *)&s->tcp, sizeof s->tcp) < 0 && errno != EINPROGRESS) die("connect");
  int far = accepted(s->listener);
  close(near);
  close(far);
}

static void round_trip(struct subject *s) {
  transfer(s->ends[0], s->ends[1]);
  transfer(s->ends[1], s->ends[0]);
}

static const struct { const char *name; void (*once)(struct subject *); int times, tcp; } kinds[] = {
  {"first", first_packet, 96, 0},
  {"established", established, 192, 1},
  {"connection", connection, 24, 1},
  {"round-trip", round_trip, 96, 1},
};

static int counter;

static uint64_t instructions(void) {
  uint64_t value = 0;
  if (counter >= 0 && read(counter, &value, sizeof value) != sizeof value) die("read the counter");
  return value;
}

static int64_t nanoseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  ok(sched_setaffinity(0, sizeof set, &set), "sched_setaffinity");
}

/* Sender, router and receiver are this one thread: the kernel works on a packet in the sender's system
 * call until it is in the receiver's socket. So the clock shows CPU time, if nobody else takes the CPU. */
static int packets(int rounds) {
  struct perf_event_attr attr = {.type = PERF_TYPE_HARDWARE, .size = sizeof attr,
                                 .config = PERF_COUNT_HW_INSTRUCTIONS, .exclude_hv = 1};
  struct sched_param priority = {.sched_priority = 1};
  counter = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
  pin(sysconf(_SC_NPROCESSORS_ONLN) - 1);
  if (sched_setscheduler(0, SCHED_FIFO, &priority) < 0) setpriority(PRIO_PROCESS, 0, -20);
  for (int n = 0; n < count; n++) open_subject(&subjects[n]);
  for (int round = 0; round < rounds; round++)
    for (int n = 0; n < count; n++) {
      struct subject *s = &subjects[(n + round) % count];
      enter(s->pod);
      for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (kinds[k].tcp && !s->with_tcp) continue;
        for (int i = 0; i < kinds[k].times / 4; i++) kinds[k].once(s); /* fills the caches */
        uint64_t executed = instructions();
        int64_t began = nanoseconds();
        for (int i = 0; i < kinds[k].times; i++) kinds[k].once(s);
        double took = nanoseconds() - began;
        executed = instructions() - executed;
        printf("%s %s %.1f %.1f\n", kinds[k].name, s->name, took / kinds[k].times,
               (double)executed / kinds[k].times);
      }
      usleep(200); /* others, too, need this CPU */
    }
  return 0;
}

/* ---- two CPUs */

/* Serves until it is killed: echoes each byte of each connection, one after the other. */
static pid_t server(struct subject *s) {
  enter(s->outside);
  int listener = bound(SOCK_STREAM, &s->tcp), one = 1;
  ok(listen(listener, 1024), "listen");
  pid_t child = ok(fork(), "fork");
  if (child) {
    close(listener);
    return child;
  }
  pin(0);
  for (char byte;;) {
    int end = ok(accept(listener, NULL, NULL), "accept");
    ok(setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), "TCP_NODELAY");
    while (recv(end, &byte, 1, 0) == 1)
      if (send(end, &byte, 1, 0) != 1) break;
    close(end);
  }
}

static int rates(int rounds, int millis) {
  pin(sysconf(_SC_NPROCESSORS_ONLN) - 1);
  for (int round = 0; round < rounds; round++)
    for (int n = 0; n < count; n++) {
      struct subject *s = &subjects[(n + round) % count];
      pid_t child = server(s);
      enter(s->pod);
      int64_t began = nanoseconds(), end = began + millis * 1000000LL;
      long done = 0;
      for (; nanoseconds() < end; done++) {
        int near = tcp_socket(0);
        ok(connect(near, (void *)&s->tcp, sizeof s->tcp), s->name);
        close(near);
      }
      printf("connections-per-second %s %.1f 0\n", s->name, done * 1e9 / (nanoseconds() - began));
      int near = tcp_socket(0);
      ok(connect(near, (void *)&s->tcp, sizeof s->tcp), s->name);
      transfer(near, near);
      began = nanoseconds(), end = began + millis * 1000000LL;
      for (done = 0; nanoseconds() < end; done++) transfer(near, near);
      printf("real-round-trip %s %.1f 0\n", s->name, (double)(nanoseconds() - began) / done);
      close(near);
      kill(child, SIGKILL);
      waitpid(child, NULL, 0);
    }
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "replay") == 0) return replay(argv[2]);
  if (argc < 3) return 2;
  read_subjects();
  if (strcmp(argv[1], "packets") == 0) return packets(atoi(argv[2]));
  if (argc == 4 && strcmp(argv[1], "rates") == 0) return rates(atoi(argv[2]), atoi(argv[3]));
  return 2;
}
