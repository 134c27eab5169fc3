/* Attempts by a full network: beyond what it is said to reach, and to use it up. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "probe.h"

static struct sockaddr_in four(uint32_t address, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = address;
    return to;
}

#define MOST 64

/* Addresses as text. */
static char found[MOST][INET6_ADDRSTRLEN];
static int count;

static void add(int family, const void *address)
{
    if (count < MOST && inet_ntop(family, address, found[count], sizeof found[count]))
        count++;
}

/* The own addresses but the loopback's and those of one link. */
static void find_own(void)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) < 0)
        stuck("list the own addresses");
    for (struct ifaddrs *one = all; one; one = one->ifa_next) {
        struct sockaddr_in *in = (void *)one->ifa_addr;
        struct sockaddr_in6 *in6 = (void *)one->ifa_addr;
        if (!in || one->ifa_flags & IFF_LOOPBACK)
            continue;
        if (in->sin_family == AF_INET)
            add(AF_INET, &in->sin_addr);
        else if (in->sin_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
            add(AF_INET6, &in6->sin6_addr);
    }
    freeifaddrs(all);
}

/* The gateways; and the name servers that are neighbours of the own addresses, since others are
 * somebody's whom nobody asked. */
static void find_neighbours(void)
{
    char line[256], device[32], text[INET_ADDRSTRLEN];
    unsigned target, gateway;
    int own = count;
    FILE *file = fopen("/proc/net/route", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%31s %x %x", device, &target, &gateway) == 3 && gateway)
            add(AF_INET, &gateway);
    file = fopen("/etc/resolv.conf", "r");
    while (file && fgets(line, sizeof line, file)) {
        uint32_t server, address, net = htonl(0xffffff00);
        if (sscanf(line, "nameserver %15[0-9.]", text) != 1 ||
            inet_pton(AF_INET, text, &server) != 1)
            continue;
        for (int i = 0; i < own; i++)
            if (inet_pton(AF_INET, found[i], &address) == 1 && !((address ^ server) & net))
                add(AF_INET, &server);
    }
}

static socklen_t read_address(const char *host, int port, struct sockaddr_storage *to)
{
    struct sockaddr_in6 *six = (void *)to;
    uint32_t address;
    if (inet_pton(AF_INET, host, &address) == 1) {
        *(struct sockaddr_in *)to = four(address, port);
        return sizeof(struct sockaddr_in);
    }
    *six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET6, host, &six->sin6_addr) != 1)
        stuck("read the address");
    return sizeof *six;
}

/* Begins to connect, and sends a datagram. */
static void knock_at(const char *host, int port)
{
    struct sockaddr_storage to;
    socklen_t size = read_address(host, port, &to);
    int tcp = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int udp = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (tcp < 0 || udp < 0)
        return;
    (void)!connect(tcp, (struct sockaddr *)&to, size);
    told("%s: %s", host, strerror(errno));
    (void)!sendto(udp, "escaped", 7, 0, (struct sockaddr *)&to, size);
}

/* Asks for the way to the loopback to lead by somebody, loosely and strictly. */
static void knock_by_way_of(const char *host, int port)
{
    uint32_t via;
    if (inet_pton(AF_INET, host, &via) != 1)
        return;
    for (int kind = 131; kind <= 137; kind += 6) {
        unsigned char route[] = {1, kind, 7, 4, 0, 0, 0, 0};
        struct sockaddr_in to = four(htonl(INADDR_LOOPBACK), port);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        memcpy(route + 4, &via, sizeof via);
        if (setsockopt(fd, IPPROTO_IP, IP_OPTIONS, route, sizeof route) == 0)
            (void)!connect(fd, (struct sockaddr *)&to, sizeof to);
        told("by way of %s: %s", host, strerror(errno));
    }
}

/* Takes a port and addresses, to which it adds its own and its neighbours'. Who answers it, such as
 * a proxy, need not be the host: whether it has come there only that can tell. */
static void knock(int argc, char **argv)
{
    int port = argc > 0 ? atoi(argv[0]) : 0;
    for (int i = 1; i < argc; i++)
        knock_at(argv[i], port);
    find_own();
    find_neighbours();
    for (int i = 0; i < count; i++) {
        knock_at(found[i], port);
        knock_by_way_of(found[i], port);
    }
    poll(NULL, 0, 2000);
}

/* Whatever makes packets that the kernel would not make of itself. */
static void forge_packets(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const int unknown[] = {EAFNOSUPPORT, EPROTONOSUPPORT, ENOPROTOOPT, 0};
    static const int nobodys[] = {EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL, 0};
    static const int no_device[] = {ENOENT, ENXIO, ENODEV, 0};
    static const char extension[8] = {IPPROTO_TCP, 0, 1, 4};
    static const int raw[] = {IPPROTO_RAW, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, 41, 47};
    int on = 1;
    for (size_t i = 0; i < COUNT(raw); i++) {
        denied_or(socket(AF_INET, SOCK_RAW, raw[i]), unknown, "raw protocol %d", raw[i]);
        denied_or(socket(AF_INET6, SOCK_RAW, raw[i]), unknown, "raw protocol %d of 6", raw[i]);
    }
    denied_or(socket(AF_PACKET, SOCK_RAW, htons(3)), unknown, "raw packets");
    denied_or(socket(AF_PACKET, SOCK_DGRAM, htons(3)), unknown, "cooked packets");
    int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    struct ifreq request = {.ifr_name = "tun0", .ifr_flags = IFF_TUN | IFF_NO_PI};
    denied_or(tun < 0 ? tun : ioctl(tun, TUNSETIFF, &request), no_device, "a tun device");
    int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    denied(setsockopt(udp, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof on), "others' addresses");
    denied_or(setsockopt(udp, IPPROTO_IP, IP_HDRINCL, &on, sizeof on), unknown, "own headers");
    struct sockaddr_in forged = four(htonl(0xc6336401), 53);
    denied_or(bind(udp, (struct sockaddr *)&forged, sizeof forged), nobodys,
              "the address of another");
    int six = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (six < 0)
        return;
    denied(setsockopt(six, IPPROTO_IPV6, IPV6_TRANSPARENT, &on, sizeof on), "others' of 6");
    denied(setsockopt(six, IPPROTO_IPV6, IPV6_HOPOPTS, extension, sizeof extension), "options");
    denied(setsockopt(six, IPPROTO_IPV6, IPV6_DSTOPTS, extension, sizeof extension), "options 2");
}

/* Listens on all addresses, says where, and whether anybody has come once it is told to. */
static void be_found(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    socklen_t size = sizeof any;
    int off = 0, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, (struct sockaddr *)&any, sizeof any) < 0 || listen(fd, 8) < 0 ||
        getsockname(fd, (struct sockaddr *)&any, &size) < 0)
        stuck("listen");
    printf("%d ", ntohs(any.sin6_port));
    find_own();
    for (int i = 0; i < count; i++)
        printf("%s ", found[i]);
    say("");
    await_line();
    struct pollfd come = {.fd = fd, .events = POLLIN};
    if (poll(&come, 1, 0) > 0)
        got("somebody has come");
    else
        told("nobody has come");
}

static int start_to_connect(int kind, struct sockaddr_in to)
{
    int fd = socket(AF_INET, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)!connect(fd, (struct sockaddr *)&to, sizeof to);
    return fd;
}

/* Takes an address and a port of the host's that may be reached: has more connections and flows to
 * there than there can be, others to nowhere, and floods it. It stays so until it is told to end. */
static void use_up_the_network(int argc, char **argv)
{
    static char piece[1400];
    struct rlimit most;
    uint32_t host;
    if (argc < 2 || inet_pton(AF_INET, argv[0], &host) != 1)
        stuck("find whom to flood");
    int port = atoi(argv[1]);
    getrlimit(RLIMIT_NOFILE, &most);
    most.rlim_cur = most.rlim_max;
    setrlimit(RLIMIT_NOFILE, &most);
    int opened = 0, flows = 0;
    long sent = 0;
    /* 198.51.100.0/24 is nobody's (RFC 5737). */
    for (int i = 1; i < 100; i++)
        start_to_connect(SOCK_STREAM, four(htonl(0xc6336400 + i), 9));
    for (int i = 0; i < 900; i++)
        opened += start_to_connect(SOCK_STREAM, four(host, port)) >= 0;
    for (int i = 0; i < 500; i++) {
        int fd = start_to_connect(SOCK_DGRAM, four(host, port));
        flows += fd >= 0;
        for (int j = 0; fd >= 0 && j < 40; j++)
            sent += send(fd, piece, sizeof piece, MSG_DONTWAIT) > 0;
    }
    told("%d connections, %d flows, %ld datagrams", opened, flows, sent);
    say("full");
    await_line();
}

const struct attempt full_network_attempts[] = {
    {"knock", knock},
    {"forge-packets", forge_packets},
    {"be-found", be_found},
    {"use-up-the-network", use_up_the_network},
    {NULL, NULL},
};
