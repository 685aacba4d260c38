#!/usr/bin/perl
# Clients of memcached, each a process with a connection of its own: they set values of many sizes, get them back one by
# one and many at a time, and compare every byte. They own different keys, and see each other's.
#
#   memcached-load.pl --port N [--clients 16] [--rounds 3] [--seed 1]
#
# Prints `sets=N gets=N hits=N`: what the server must have counted. Status 0: every value was right.

use strict;
use warnings;
use Getopt::Long;
use IO::Socket::INET;

my %opt = (clients => 16, rounds => 3, seed => 1);
GetOptions(\%opt, 'port=i', 'clients=i', 'rounds=i', 'seed=i') or exit 2;

# Around the sizes of the server's buffers (2 kB to begin with, 16 kB for a read), and far beyond a socket's.
my @sizes = (0, 1, 7, 100, 1000, 2047, 2048, 2049, 5000, 16383, 16384, 16385, 50000, 100_000, 300_000, 900_000);
my ($sets, $gets, $hits) = (0, 0, 0);
my $sock;
my $held = '';    # what was received and not yet taken

sub give {
    my ($text) = @_;
    my $sent = 0;
    while ($sent < length $text) {
        my $n = syswrite $sock, $text, length($text) - $sent, $sent;
        die "send: $!\n" unless $n;
        $sent += $n;
    }
}

sub more {
    my $n = sysread $sock, $held, 1 << 18, length $held;
    die "receive: $!\n" unless defined $n;
    die "the server has closed the connection\n" if $n == 0;
}

sub line {
    my $end;
    more() while ($end = index $held, "\r\n") < 0;
    my $line = substr $held, 0, $end;
    substr $held, 0, $end + 2, '';
    return $line;
}

sub bytes {
    my ($count) = @_;
    more() while length $held < $count;
    return substr $held, 0, $count, '';
}

sub expect {
    my ($found, $expected, $what) = @_;
    die "$what: '" . substr($found, 0, 60) . "', expected '$expected'\n" unless $found eq $expected;
}

# The value of a key, the same each time and in each process: pieces of its name, stretched, no two alike.
sub value {
    my ($key, $size) = @_;
    my $piece = join ',', map { "$key/$_" } 1 .. 50;
    return substr $piece x (1 + $size / length $piece), 0, $size;
}

# Gets all the keys by one command. The order of the answers is that of the question.
sub get {
    my ($size_of, @keys) = @_;
    give("get @keys\r\n");
    for my $key (@keys) {
        expect(line(), "VALUE $key 5 $size_of->{$key}", "get $key");
        die "$key: another value\n" if bytes($size_of->{$key}) ne value($key, $size_of->{$key});
        expect(bytes(2), "\r\n", "end of $key");
    }
    expect(line(), 'END', 'end of get');
    $gets += @keys;
    $hits += @keys;
}

sub client {
    my ($number) = @_;
    alarm 60;    # a client that is never answered must not wait for ever
    srand $opt{seed} * 1000 + $number;
    $sock = IO::Socket::INET->new(Proto => 'tcp', PeerAddr => '127.0.0.1', PeerPort => $opt{port}) or die "connect: $!\n";
    for my $round (1 .. $opt{rounds}) {
        my %size_of;
        for my $size (sort { rand() <=> 0.5 } @sizes) {
            my $key = "c$number-r$round-s$size";
            $size_of{$key} = $size;
            my $set = "set $key 5 0 $size\r\n" . value($key, $size) . "\r\n";
            if (rand() < 0.3 && $size > 0) {
                # In two pieces, so that the server meets the end of its input in the middle of a value.
                my $cut = int rand length $set;
                give(substr $set, 0, $cut);
                select undef, undef, undef, 0.01;
                give(substr $set, $cut);
            }
            else { give($set) }
            expect(line(), 'STORED', "set $key");
            $sets++;
            get(\%size_of, $key) if rand() < 0.5;
        }
        get(\%size_of, keys %size_of);
        # A hundred commands at once, more than the server answers in one turn (-R 20): it must come back to the rest
        # without being told by the kernel.
        my $small = "c$number-r$round-s7";
        give("get $small\r\n" x 100);
        for (1 .. 100) {
            expect(line(), "VALUE $small 5 7", "pipelined get $_");
            expect(bytes(9), value($small, 7) . "\r\n", "pipelined value $_");
            expect(line(), 'END', "end of pipelined get $_");
        }
        $gets += 100;
        $hits += 100;
        give("get nowhere\r\n");
        expect(line(), 'END', 'get of a key that is not there');
        $gets++;
        # Counted by all clients together.
        give("incr sum $number\r\n");
        line() =~ /^\d+$/ or die "incr is not answered by a number\n";
    }
    give("quit\r\n");
}

my @readers;
for my $number (1 .. $opt{clients}) {
    my $pid = open my $reader, '-|';
    die "fork: $!\n" unless defined $pid;
    if ($pid == 0) {
        my $right = eval { client($number); 1 };
        print STDERR "client $number: $@" unless $right;
        print "$sets $gets $hits\n";
        exit !$right;
    }
    push @readers, $reader;
}
my $failed = 0;
for my $reader (@readers) {
    my ($s, $g, $h) = split ' ', <$reader> // '';
    close $reader or $failed++;
    next unless defined $h;
    $sets += $s;
    $gets += $g;
    $hits += $h;
}
print "sets=$sets gets=$gets hits=$hits\n";
exit($failed > 0);
