#!/usr/bin/perl
# Clients of PostgreSQL that listen: each has a connection of its own and does nothing but wait. psql would look for
# notifications only after a query; here the server has to wake up and send them.
#
#   pg-listen.pl --port N --user U --database D --channel C --listeners 20 --expect 100 [--patience 20]
#
# Prints "listening" when all of them are, then waits until each has got `--expect` notifications, whose payloads must
# be 1, 2, 3 and so on. Prints `notifications=N`.

use strict;
use warnings;
use Getopt::Long;
use IO::Select;
use IO::Socket::INET;

my %opt = (listeners => 20, expect => 100, patience => 20, database => 'postgres');
GetOptions(\%opt, 'port=i', 'user=s', 'database=s', 'channel=s', 'listeners=i', 'expect=i', 'patience=i') or exit 2;
$| = 1;
$SIG{ALRM} = sub { die "not all notifications within $opt{patience} s\n" };
alarm $opt{patience};

sub give {
    my ($sock, $type, $body) = @_;
    my $message = $type . pack('N', 4 + length $body) . $body;
    syswrite($sock, $message) == length $message or die "send: $!\n";
}

# The next whole message that was received on this connection, if there is one.
sub taken {
    my ($conn) = @_;
    return if length $conn->{in} < 5;
    my ($type, $length) = unpack 'a N', $conn->{in};
    return if length $conn->{in} < 1 + $length;
    my $message = substr $conn->{in}, 0, 1 + $length, '';
    return ($type, substr $message, 5);
}

sub receive {
    my ($conn) = @_;
    my $got = sysread $conn->{sock}, $conn->{in}, 65536, length $conn->{in};
    die "receive: $!\n" unless defined $got;
    die "the server has closed the connection\n" if $got == 0;
}

sub until_ready {
    my ($conn) = @_;
    while (1) {
        my ($type, $body) = taken($conn);
        if (!defined $type) { receive($conn) }
        elsif ($type eq 'E') { die "the server: $body\n" }
        elsif ($type eq 'Z') { return }
    }
}

my %conns;
for (1 .. $opt{listeners}) {
    my $sock = IO::Socket::INET->new(Proto => 'tcp', PeerAddr => '127.0.0.1', PeerPort => $opt{port}) or die "connect: $!\n";
    my $conn = $conns{fileno $sock} = { sock => $sock, in => '', count => 0 };
    give($sock, '', pack('N', 196608) . "user\0$opt{user}\0database\0$opt{database}\0\0");
    until_ready($conn);
    give($sock, 'Q', "LISTEN $opt{channel}\0");
    until_ready($conn);
}
print "listening\n";

my $select = IO::Select->new(map { $_->{sock} } values %conns);
my $sum = 0;
while ($select->count) {
    for my $sock ($select->can_read) {
        my $conn = $conns{fileno $sock};
        receive($conn);
        while (my ($type, $body) = taken($conn)) {
            next unless $type eq 'A';
            my (undef, $channel, $payload) = unpack 'N Z* Z*', $body;
            $conn->{count}++;
            $sum++;
            die "'$payload' on '$channel' in place of $conn->{count}\n"
                if $channel ne $opt{channel} || $payload ne $conn->{count};
        }
        next if $conn->{count} < $opt{expect};
        $select->remove($sock);
        give($sock, 'X', '');
        close $sock;
    }
}
print "notifications=$sum\n";
