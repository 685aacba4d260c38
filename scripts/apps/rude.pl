#!/usr/bin/perl
# Clients that do not behave: they connect, send something, and go.
#
#   rude.pl --port N --how cut|reset|half|leave [--send TEXT] [--file FILE] [--count 1] [--linger 0]
#
#   cut      close at once, in the middle of whatever it is
#   reset    the same, and the server gets a reset instead of an end
#   half     close only the own direction; print what the server still sends until it closes, which must be soon
#   leave    keep the connections open and silent; says "open", and ends by itself when standard input does
#
# TEXT may contain \r, \n, \t and \xNN; what FILE contains is sent behind it. --count connections are open at the same
# time; --linger is how many seconds pass between sending and going.

use strict;
use warnings;
use Getopt::Long;
use IO::Socket::INET;
use Socket qw(SOL_SOCKET SO_LINGER);

my %opt = (count => 1, send => '', linger => 0);
GetOptions(\%opt, 'port=i', 'how=s', 'send=s', 'file=s', 'count=i', 'linger=f') or exit 2;
my $how = $opt{how} // '';
$how =~ /^(cut|reset|half|leave)$/ or die "--how is cut, reset, half or leave\n";
$SIG{PIPE} = 'IGNORE';
$| = 1;

my %escapes = (r => "\r", n => "\n", t => "\t");
my $text = $opt{send} =~ s/\\(?:([rnt])|x([0-9a-f]{2}))/$1 ? $escapes{$1} : chr hex $2/geri;
if (defined $opt{file}) {
    open my $file, '<:raw', $opt{file} or die "$opt{file}: $!\n";
    local $/;
    $text .= <$file>;
}

my @socks;
for (1 .. $opt{count}) {
    my $sock = IO::Socket::INET->new(Proto => 'tcp', PeerAddr => '127.0.0.1', PeerPort => $opt{port})
        or die "connect: $!\n";
    push @socks, $sock;
    my $sent = 0;
    while ($sent < length $text) { $sent += syswrite($sock, $text, length($text) - $sent, $sent) // last }
}
select undef, undef, undef, $opt{linger} if $opt{linger};

if ($how eq 'half') {
    for my $sock (@socks) { shutdown $sock, 1 }
    for my $sock (@socks) {
        local $SIG{ALRM} = sub { die "not closed by the server within 10 s\n" };
        alarm 10;
        while (1) {
            my $got = sysread $sock, my $answer, 65536;
            die "receive: $!\n" unless defined $got;
            last if $got == 0;
            print $answer;
        }
        alarm 0;
    }
}
elsif ($how eq 'leave') {
    print "open\n";
    1 while sysread STDIN, my $ignored, 4096;
}
elsif ($how eq 'reset') {
    setsockopt $_, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0 for @socks;
}
close $_ for @socks;
