/* Attempts to reach anything but the sandbox's own loopback. */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "probe.h"

/* What connecting says where nobody is. */
static const int nowhere[] = {ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL,
                              EAFNOSUPPORT, ENOENT, EPROTONOSUPPORT, ENODEV, ENOTDIR, 0};

static long finish_connecting(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int error = 0;
    socklen_t size = sizeof error;
    if (poll(&wait, 1, 3000) == 0) {
        errno = EHOSTUNREACH;
        return -1;
    }
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    errno = error;
    return error ? -1 : 0;
}

static long try_to_connect(int family, int kind, const void *address, socklen_t size)
{
    int fd = socket(family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    long result = connect(fd, address, size);
    if (result < 0 && errno == EINPROGRESS)
        result = finish_connecting(fd);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

static void connect_to_unix(const char *name, int abstract)
{
    static const int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    if (length + 1 >= sizeof address.sun_path)
        stuck("fit the socket's name");
    memcpy(address.sun_path + (abstract ? 1 : 0), name, length);
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + length + 1;
    for (size_t i = 0; i < COUNT(kinds); i++)
        denied_or(try_to_connect(AF_UNIX, kinds[i], &address, size), nowhere, "connect to %s%s",
                  abstract ? "@" : "", name);
}

static void connect_to_abstract_sockets(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        connect_to_unix(argv[i], 1);
}

static void connect_to_sockets_by_path(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        connect_to_unix(argv[i], 0);
}

static void connect_by_internet(const char *host, int port)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    if (inet_pton(AF_INET, host, &four.sin_addr) == 1)
        denied_or(try_to_connect(AF_INET, SOCK_STREAM, &four, sizeof four), nowhere,
                  "connect to %s:%d", host, port);
    else if (inet_pton(AF_INET6, host, &six.sin6_addr) == 1)
        denied_or(try_to_connect(AF_INET6, SOCK_STREAM, &six, sizeof six), nowhere,
                  "connect to [%s]:%d", host, port);
    else
        stuck("read the address");
}

/* Takes pairs of a host's address and a port. */
static void connect_to_services(int argc, char **argv)
{
    for (int i = 0; i + 1 < argc; i += 2)
        connect_by_internet(argv[i], atoi(argv[i + 1]));
}

/* Sends a word to each pair of a host's address and a port: whether it arrives, only the host
 * can tell. */
static void send_datagrams(int argc, char **argv)
{
    for (int i = 0; i + 1 < argc; i += 2) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[i + 1]))};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (inet_pton(AF_INET, argv[i], &to.sin_addr) != 1)
            stuck("read the address");
        if (sendto(fd, "escaped", 7, 0, (struct sockaddr *)&to, sizeof to) == 7)
            told("sent to %s", argv[i]);
        else
            told("send to %s: %s", argv[i], strerror(errno));
    }
}

static void open_unusual_sockets(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const int unknown[] = {EAFNOSUPPORT, 0}, kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW,
                                                               SOCK_SEQPACKET};
    for (int family = 0; family < 64; family++) {
        if (family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK)
            continue;
        for (size_t i = 0; i < COUNT(kinds); i++)
            denied_or(socket(family, kinds[i], 0), unknown, "family %d, kind %d", family,
                      kinds[i]);
    }
}

static void open_raw_sockets(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const int unknown[] = {EAFNOSUPPORT, 0};
    denied(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "raw ICMP");
    denied(socket(AF_INET, SOCK_RAW, IPPROTO_RAW), "raw IP");
    denied_or(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), unknown, "raw ICMP 6");
    denied_or(socket(AF_PACKET, SOCK_RAW, htons(3)), unknown, "raw packets");
    denied_or(socket(AF_PACKET, SOCK_DGRAM, htons(3)), unknown, "cooked packets");
}

static void open_kernel_netlinks(int argc, char **argv)
{
    (void)argc, (void)argv;
    static const int unknown[] = {EAFNOSUPPORT, EPROTONOSUPPORT, 0};
    for (int protocol = 1; protocol < MAX_LINKS; protocol++)
        denied_or(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol), unknown,
                  "netlink protocol %d", protocol);
}

struct request {
    struct nlmsghdr header;
    union {
        struct ifinfomsg link;
        struct ifaddrmsg address;
        struct rtmsg route;
    };
    char attributes[64];
};

static void append(struct request *request, int type, const void *bytes, size_t length)
{
    struct rtattr *attribute = (void *)((char *)request + request->header.nlmsg_len);
    attribute->rta_type = type;
    attribute->rta_len = RTA_LENGTH(length);
    memcpy(RTA_DATA(attribute), bytes, length);
    request->header.nlmsg_len += RTA_ALIGN(RTA_LENGTH(length));
}

static void ask(struct request *request, const char *what)
{
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char rest[512];
    } answer = {0};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    request->header.nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    if (fd < 0 || send(fd, request, request->header.nlmsg_len, 0) < 0) {
        denied_or(-1, nowhere, "%s", what);
        return;
    }
    if (recv(fd, &answer, sizeof answer, 0) < (ssize_t)NLMSG_LENGTH(sizeof answer.error))
        stuck("read the answer of netlink");
    close(fd);
    errno = -answer.error.error;
    denied(answer.error.error ? -1 : 0, "%s", what);
}

static void change_the_network(int argc, char **argv)
{
    (void)argc, (void)argv;
    uint32_t address = htonl(0x7f000002);
    struct request dummy = {.header = {NLMSG_LENGTH(sizeof dummy.link), RTM_NEWLINK,
                                       NLM_F_CREATE | NLM_F_EXCL, 0, 0}};
    append(&dummy, IFLA_IFNAME, "probe0", 7);
    struct request up = {.header = {NLMSG_LENGTH(sizeof up.link), RTM_NEWLINK, 0, 0, 0},
                         .link = {.ifi_index = 1, .ifi_change = IFF_UP, .ifi_flags = 0}};
    struct request add = {.header = {NLMSG_LENGTH(sizeof add.address), RTM_NEWADDR,
                                     NLM_F_CREATE, 0, 0},
                          .address = {.ifa_family = AF_INET, .ifa_prefixlen = 8, .ifa_index = 1}};
    append(&add, IFA_LOCAL, &address, sizeof address);
    struct request route = {.header = {NLMSG_LENGTH(sizeof route.route), RTM_NEWROUTE,
                                       NLM_F_CREATE, 0, 0},
                            .route = {.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN,
                                      .rtm_type = RTN_UNICAST, .rtm_scope = RT_SCOPE_LINK}};
    ask(&dummy, "make an interface");
    ask(&up, "take the loopback down");
    ask(&add, "add an address");
    ask(&route, "add a route");
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    denied_or(ioctl(fd, SIOCSIFFLAGS, &request), nowhere, "set the loopback's flags");
    denied_or(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "none0", 6), nowhere,
              "bind to a device");
}

static void list_interfaces(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct if_nameindex *all = if_nameindex();
    if (!all) {
        denied_or(-1, nowhere, "list the interfaces");
        return;
    }
    for (struct if_nameindex *one = all; one->if_index; one++) {
        if (strcmp(one->if_name, "lo") == 0)
            told("there is a loopback");
        else
            got("the interface %s", one->if_name);
    }
    if_freenameindex(all);
}

const struct attempt network_attempts[] = {
    {"connect-to-abstract-sockets", connect_to_abstract_sockets},
    {"connect-to-sockets-by-path", connect_to_sockets_by_path},
    {"connect-to-services", connect_to_services},
    {"send-datagrams", send_datagrams},
    {"open-unusual-sockets", open_unusual_sockets},
    {"open-raw-sockets", open_raw_sockets},
    {"open-kernel-netlinks", open_kernel_netlinks},
    {"change-the-network", change_the_network},
    {"list-interfaces", list_interfaces},
    {NULL, NULL},
};
