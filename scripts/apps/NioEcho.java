import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.AsynchronousServerSocketChannel;
import java.nio.channels.AsynchronousSocketChannel;
import java.nio.channels.CancelledKeyException;
import java.nio.channels.CompletionHandler;
import java.nio.channels.DatagramChannel;
import java.nio.channels.Pipe;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Queue;
import java.util.Random;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import sun.misc.Signal;

/**
 * An echo server on selectors: `NioEcho PORT`. One thread accepts and hands connections to three others, each with a
 * selector of its own that it is woken from. Connections wander: after so many bytes their key is cancelled, and they
 * are registered with the next selector. Before it listens it checks what needs no connection from outside. TERM ends
 * it, with one line of counts.
 */
public class NioEcho {
    static final int LOOPS = 3;
    /** So much that was not taken yet, and no more is read. */
    static final int ENOUGH = 100_000;
    /** After so many bytes a connection wanders. */
    static final int WANDER = 20_000;

    static final AtomicLong accepted = new AtomicLong();
    static final AtomicLong whole = new AtomicLong();
    static final AtomicLong broken = new AtomicLong();
    static final AtomicLong bytes = new AtomicLong();
    static final AtomicLong wandered = new AtomicLong();
    static final AtomicLong open = new AtomicLong();
    static final Loop[] loops = new Loop[LOOPS];
    static volatile boolean ending;

    static class Connection {
        final SocketChannel channel;
        ByteBuffer pending = ByteBuffer.allocate(ENOUGH + 16384);
        boolean ended;
        long seen;
        long wanders = WANDER;

        Connection(SocketChannel channel) {
            this.channel = channel;
        }

        /** What it waits for next, or -1 when all is echoed and the client has ended its side. */
        int serve() throws IOException {
            if (!ended && pending.position() < ENOUGH) {
                int count = channel.read(pending);
                if (count < 0) {
                    ended = true;
                } else {
                    seen += count;
                    bytes.addAndGet(count);
                }
            }
            pending.flip();
            channel.write(pending);
            pending.compact();
            if (ended && pending.position() == 0) {
                return -1;
            }
            return (ended || pending.position() >= ENOUGH ? 0 : SelectionKey.OP_READ)
                | (pending.position() > 0 ? SelectionKey.OP_WRITE : 0);
        }
    }

    static class Loop extends Thread {
        final Selector selector;
        final int number;
        final Queue<Connection> arrived = new ConcurrentLinkedQueue<>();
        final AtomicLong rung = new AtomicLong();
        final AtomicLong answered = new AtomicLong();

        Loop(int number) throws IOException {
            this.number = number;
            selector = Selector.open();
        }

        void take(Connection connection) {
            arrived.add(connection);
            selector.wakeup();
        }

        @Override
        public void run() {
            try {
                while (!ending) {
                    selector.select();
                    answered.set(rung.get());
                    for (Connection connection; (connection = arrived.poll()) != null; ) {
                        connection.channel.register(selector, SelectionKey.OP_READ, connection);
                        serve(connection.channel.keyFor(selector));
                    }
                    // A copy: to forget a cancelled key the selector takes it out of the set.
                    for (SelectionKey key : List.copyOf(selector.selectedKeys())) {
                        serve(key);
                    }
                    selector.selectedKeys().clear();
                }
                for (SelectionKey key : selector.keys()) {
                    key.channel().close();
                }
                selector.close();
            } catch (Throwable error) {
                error.printStackTrace();
                Runtime.getRuntime().halt(1);
            }
        }

        void serve(SelectionKey key) throws IOException {
            if (!key.isValid()) {
                return;
            }
            Connection connection = (Connection) key.attachment();
            int interest;
            try {
                interest = connection.serve();
            } catch (IOException error) {
                broken.incrementAndGet();
                close(key, connection);
                return;
            }
            if (interest < 0) {
                whole.incrementAndGet();
                connection.channel.shutdownOutput();
                close(key, connection);
            } else if (connection.seen >= connection.wanders) {
                connection.wanders = connection.seen + WANDER;
                key.cancel();
                selector.selectNow(events -> { });
                check(connection.channel.keyFor(selector) == null, "a cancelled key is forgotten");
                wandered.incrementAndGet();
                loops[(number + 1) % LOOPS].take(connection);
            } else {
                key.interestOps(interest);
            }
        }

        void close(SelectionKey key, Connection connection) throws IOException {
            key.cancel();
            connection.channel.close();
            open.decrementAndGet();
        }
    }

    /** Rings a selector only when it has answered the last ring, so that a lost one stops it, and the counts tell. */
    static class Ringer extends Thread {
        final Loop loop;

        Ringer(Loop loop) {
            this.loop = loop;
        }

        @Override
        public void run() {
            while (!ending) {
                if (loop.rung.get() == loop.answered.get()) {
                    loop.rung.incrementAndGet();
                    loop.selector.wakeup();
                }
                pause(2);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("BESIDE " + asynchronous() + ", " + pipes() + ", " + datagrams() + ", " + children());
        System.out.flush();
        ServerSocketChannel listener = ServerSocketChannel.open();
        listener.configureBlocking(false);
        listener.bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(arguments[0])), 1024);
        Selector selector = Selector.open();
        listener.register(selector, SelectionKey.OP_ACCEPT);
        Signal.handle(new Signal("TERM"), signal -> {
            ending = true;
            selector.wakeup();
        });
        List<Thread> threads = new ArrayList<>();
        for (int number = 0; number < LOOPS; number++) {
            loops[number] = new Loop(number);
        }
        for (Loop loop : loops) {
            threads.add(loop);
            threads.add(new Ringer(loop));
        }
        threads.forEach(Thread::start);
        while (!ending) {
            selector.select();
            selector.selectedKeys().clear();
            for (SocketChannel channel; (channel = listener.accept()) != null; ) {
                open.incrementAndGet();
                channel.configureBlocking(false);
                loops[(int) (accepted.incrementAndGet() % LOOPS)].take(new Connection(channel));
            }
        }
        listener.close();
        selector.close();
        for (Loop loop : loops) {
            loop.selector.wakeup();
        }
        for (Thread thread : threads) {
            thread.join();
        }
        long rung = 0;
        long answered = 0;
        for (Loop loop : loops) {
            rung += loop.rung.get();
            answered += loop.answered.get();
        }
        System.out.printf("SERVED accepted=%d whole=%d broken=%d bytes=%d wandered=%d rung=%d answered=%d open=%d%n",
            accepted.get(), whole.get(), broken.get(), bytes.get(), wandered.get(), rung, answered, open.get());
    }

    /** Asynchronous channels: the JDK registers them one-shot, and waits with threads of its own. */
    static String asynchronous() throws Exception {
        final int connections = 40;
        final int rounds = 20;
        AsynchronousServerSocketChannel server = AsynchronousServerSocketChannel.open()
            .bind(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 256);
        server.accept(null, new CompletionHandler<AsynchronousSocketChannel, Void>() {
            @Override
            public void completed(AsynchronousSocketChannel channel, Void nothing) {
                server.accept(null, this);
                new AsynchronousEcho(channel).read();
            }

            @Override
            public void failed(Throwable error, Void nothing) {
                // The end of the server.
            }
        });
        List<AsynchronousSocketChannel> clients = new ArrayList<>();
        for (int number = 0; number < connections; number++) {
            AsynchronousSocketChannel client = AsynchronousSocketChannel.open();
            client.connect(server.getLocalAddress()).get(10, TimeUnit.SECONDS);
            clients.add(client);
        }
        byte[] said = new byte[5000];
        for (int round = 0; round < rounds; round++) {
            new Random(round).nextBytes(said);
            List<ByteBuffer> got = new ArrayList<>();
            List<Future<Integer>> reads = new ArrayList<>();
            for (AsynchronousSocketChannel client : clients) {
                ByteBuffer buffer = ByteBuffer.allocate(said.length);
                got.add(buffer);
                reads.add(client.read(buffer));
            }
            for (AsynchronousSocketChannel client : clients) {
                for (ByteBuffer out = ByteBuffer.wrap(said); out.hasRemaining(); ) {
                    client.write(out).get(10, TimeUnit.SECONDS);
                }
            }
            for (int number = 0; number < connections; number++) {
                check(reads.get(number).get(10, TimeUnit.SECONDS) > 0, "an answer");
                while (got.get(number).hasRemaining()) {
                    check(clients.get(number).read(got.get(number)).get(10, TimeUnit.SECONDS) > 0, "more of it");
                }
                check(Arrays.equals(got.get(number).array(), said), "what came back");
            }
        }
        for (AsynchronousSocketChannel client : clients) {
            client.shutdownOutput();
            check(client.read(ByteBuffer.allocate(1)).get(10, TimeUnit.SECONDS) == -1, "the server's end");
            client.close();
        }
        server.close();
        return connections * rounds + " messages over asynchronous channels";
    }

    static class AsynchronousEcho implements CompletionHandler<Integer, Boolean> {
        final AsynchronousSocketChannel channel;
        final ByteBuffer buffer = ByteBuffer.allocate(3000);

        AsynchronousEcho(AsynchronousSocketChannel channel) {
            this.channel = channel;
        }

        void read() {
            buffer.clear();
            channel.read(buffer, true, this);
        }

        @Override
        public void completed(Integer count, Boolean reading) {
            if (reading) {
                if (count < 0) {
                    failed(null, true);
                    return;
                }
                buffer.flip();
            }
            if (buffer.hasRemaining()) {
                channel.write(buffer, false, this);
            } else {
                read();
            }
        }

        @Override
        public void failed(Throwable error, Boolean reading) {
            try {
                channel.close();
            } catch (IOException again) {
                throw new RuntimeException(again);
            }
        }
    }

    /** Pipes that other threads write to, and a select that ends in time where nothing comes. */
    static String pipes() throws Exception {
        final int count = 20;
        final int each = 100_000;
        Selector selector = Selector.open();
        CountDownLatch written = new CountDownLatch(count);
        for (int number = 0; number < count; number++) {
            Pipe pipe = Pipe.open();
            pipe.source().configureBlocking(false);
            pipe.source().register(selector, SelectionKey.OP_READ, new AtomicInteger());
            new Thread(() -> {
                try {
                    for (int part = 0; part < 100; part++) {
                        ByteBuffer data = ByteBuffer.allocate(each / 100);
                        while (data.hasRemaining()) {
                            pipe.sink().write(data);
                        }
                    }
                    pipe.sink().close();
                    written.countDown();
                } catch (IOException error) {
                    error.printStackTrace();
                }
            }).start();
        }
        ByteBuffer buffer = ByteBuffer.allocate(4096);
        int ended = 0;
        while (ended < count) {
            check(selector.select(10_000) > 0, "something comes");
            for (SelectionKey key : selector.selectedKeys()) {
                AtomicInteger got = (AtomicInteger) key.attachment();
                buffer.clear();
                int bytes = ((Pipe.SourceChannel) key.channel()).read(buffer);
                if (bytes < 0) {
                    check(got.get() == each, "all of it");
                    key.channel().close();
                    ended++;
                } else {
                    got.addAndGet(bytes);
                }
            }
            selector.selectedKeys().clear();
        }
        written.await();
        long start = System.nanoTime();
        check(selector.select(50) == 0, "nothing comes");
        check(System.nanoTime() - start >= 49_000_000, "a select that waits as long as told");
        selector.close();
        boolean thrown = false;
        try {
            selector.select();
        } catch (java.nio.channels.ClosedSelectorException error) {
            thrown = true;
        }
        check(thrown, "a closed selector says so");
        return count + " pipes";
    }

    static String datagrams() throws Exception {
        Selector selector = Selector.open();
        InetSocketAddress any = new InetSocketAddress(InetAddress.getLoopbackAddress(), 0);
        DatagramChannel one = DatagramChannel.open().bind(any);
        DatagramChannel other = DatagramChannel.open().bind(any);
        one.connect(other.getLocalAddress());
        other.connect(one.getLocalAddress());
        other.configureBlocking(false);
        SelectionKey key = other.register(selector, SelectionKey.OP_READ);
        for (int number = 0; number < 500; number++) {
            one.write(ByteBuffer.allocate(4).putInt(0, number));
            check(selector.select(10_000) == 1, "a datagram");
            selector.selectedKeys().clear();
            ByteBuffer got = ByteBuffer.allocate(8);
            check(other.read(got) == 4 && got.getInt(0) == number, "the right one");
        }
        key.cancel();
        one.write(ByteBuffer.allocate(4));
        check(selector.select(20) == 0, "nothing for a cancelled key");
        boolean thrown = false;
        try {
            key.interestOps();
        } catch (CancelledKeyException error) {
            thrown = true;
        }
        check(thrown, "a cancelled key says so");
        one.close();
        other.close();
        selector.close();
        return "500 datagrams";
    }

    static String children() throws Exception {
        byte[] said = new byte[300_000];
        new Random(1).nextBytes(said);
        for (int number = 0; number < 5; number++) {
            Process cat = new ProcessBuilder("cat").start();
            Thread writer = new Thread(() -> {
                try (OutputStream to = cat.getOutputStream()) {
                    to.write(said);
                } catch (IOException error) {
                    error.printStackTrace();
                }
            });
            writer.start();
            try (InputStream from = cat.getInputStream()) {
                check(Arrays.equals(from.readAllBytes(), said), "what cat gave back");
            }
            writer.join();
            check(cat.waitFor() == 0, "cat's end");
            check(new ProcessBuilder("sh", "-c", "exit " + number).start().waitFor() == number, "an exit code");
        }
        return "10 child processes";
    }

    static void pause(long milliseconds) {
        try {
            Thread.sleep(milliseconds);
        } catch (InterruptedException error) {
            throw new RuntimeException(error);
        }
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }
}
