#!/usr/bin/perl
# An HTTP load that counts what wrk does not: a request that is never answered. Every request must be answered in full,
# with the right body, in time; with --fresh each has a connection of its own, which the server must close.
#
#   http-load.pl --port N --path /p --body FILE [--connections 8] [--seconds 2] [--patience 5] [--fresh] [--pause S]
#
# With --pause a connection stays idle for up to that many seconds, at random, between two requests.
# Prints `requests=N failed=N slowest=N ms` and, on stderr, the first failures. Status 0: requests, and none failed.

use strict;
use warnings;
use Errno qw(EAGAIN EINPROGRESS EINTR);
use Getopt::Long;
use IO::Socket::INET;
use Time::HiRes qw(time);

my %opt = (connections => 8, seconds => 2, patience => 5, fresh => 0, pause => 0);
GetOptions(\%opt, 'port=i', 'path=s', 'body=s', 'connections=i', 'seconds=f', 'patience=f', 'fresh', 'pause=f') or exit 2;
$SIG{PIPE} = 'IGNORE';

my $expected = do {
    open my $file, '<:raw', $opt{body} or die "$opt{body}: $!\n";
    local $/;
    <$file>;
};
my $request = "GET $opt{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: "
    . ($opt{fresh} ? 'close' : 'keep-alive') . "\r\n\r\n";
my ($requests, $failed, $slowest) = (0, 0, 0);
my %conns;    # by descriptor
my $deadline = time + $opt{seconds};

sub connect_one {
    my $sock = IO::Socket::INET->new(Proto => 'tcp', PeerAddr => '127.0.0.1', PeerPort => $opt{port}, Blocking => 0);
    return failure({}, "connect: $!") unless $sock;
    $conns{fileno $sock} = ask({ sock => $sock });
}

# The next request on this connection: now, or after a pause that look_round() ends.
sub ask {
    my ($conn) = @_;
    @$conn{qw(out in done since)} = ($request, '', 0, time);
    if ($opt{pause}) {
        $conn->{since} += rand $opt{pause};
        $conn->{out} = '';
        $conn->{idle} = 1;
    }
    return $conn;
}

sub look_round {
    my $now = time;
    for my $conn (values %conns) {
        if ($conn->{idle}) {
            if ($now >= $deadline) { drop($conn) }
            elsif ($now >= $conn->{since}) { @$conn{qw(out idle since)} = ($request, 0, $now) }
        }
        elsif ($now - $conn->{since} > $opt{patience}) {
            failure($conn, $conn->{done} ? 'not closed in time' : 'no answer in time: ' . length($conn->{in}) . ' bytes');
        }
    }
}

sub failure {
    my ($conn, $why) = @_;
    $failed++;
    print STDERR "$why\n" if $failed <= 10;
    drop($conn);
}

sub drop {
    my ($conn) = @_;
    return unless $conn->{sock};
    delete $conns{fileno $conn->{sock}};
    close $conn->{sock};
}

sub answered {
    my ($conn) = @_;
    my $took = time - $conn->{since};
    $slowest = $took if $took > $slowest;
    $requests++;
}

sub send_some {
    my ($conn) = @_;
    my $sent = syswrite $conn->{sock}, $conn->{out};
    if (defined $sent) { substr $conn->{out}, 0, $sent, '' }
    elsif (!$!{EAGAIN} && !$!{EINTR}) { failure($conn, "send: $!") }
}

sub receive_some {
    my ($conn) = @_;
    my $got = sysread $conn->{sock}, $conn->{in}, 1 << 18, length $conn->{in};
    if (!defined $got) {
        failure($conn, "receive: $!") unless $!{EAGAIN} || $!{EINTR};
        return;
    }
    if ($conn->{idle}) { return failure($conn, 'closed, or bytes, between two requests') }
    if ($got == 0) {
        return failure($conn, 'closed after ' . length($conn->{in}) . ' bytes of an answer') unless $conn->{done};
        answered($conn);
        return drop($conn);
    }
    return failure($conn, 'bytes after the answer') if $conn->{done};
    my $head = index $conn->{in}, "\r\n\r\n";
    return if $head < 0;
    return failure($conn, 'status: ' . substr $conn->{in}, 0, 30) if substr($conn->{in}, 9, 3) ne '200';
    my $have = length($conn->{in}) - $head - 4;
    return if $have < length $expected;
    return failure($conn, 'another body') if substr($conn->{in}, $head + 4) ne $expected;
    if ($opt{fresh}) { $conn->{done} = 1 }    # answered when the server has closed
    else             { answered($conn); time < $deadline ? ask($conn) : drop($conn) }
}

connect_one() for 1 .. $opt{connections};
my $last_look = time;
while (%conns || time < $deadline) {
    if (time < $deadline) { connect_one() while keys %conns < $opt{connections} && $failed < 1000 }
    my ($read, $write) = ('', '');
    while (my ($fd, $conn) = each %conns) {
        vec($read, $fd, 1) = 1;
        vec($write, $fd, 1) = 1 if length $conn->{out};
    }
    if (select($read, $write, undef, 0.02) > 0) {
        for my $fd (keys %conns) {
            my $conn = $conns{$fd} or next;
            if (vec $write, $fd, 1) { send_some($conn) }
            if ($conns{$fd} && vec $read, $fd, 1) { receive_some($conn) }
        }
    }
    if (time - $last_look > 0.02) {
        $last_look = time;
        look_round();
    }
}
printf "requests=%d failed=%d slowest=%d ms\n", $requests, $failed, $slowest * 1000;
exit($requests == 0 || $failed > 0 ? 1 : 0);
