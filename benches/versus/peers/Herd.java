/**
 * Java, three ways: a selector that one thread turns, a thread for each connection, and a virtual thread for each.
 *
 * <pre>java Herd.java nio|threads|virtual PORT LOG|off</pre>
 *
 * All share the parsing, the table and the log. Virtual threads are not in Java 17, which must be able to compile this.
 */
import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.time.*;
import java.time.format.DateTimeFormatter;
import java.util.*;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;

public final class Herd {
    static final int LINE_BYTES = 4096, READ_BYTES = 65536, BACKLOG = 4096;

    public static void main(String[] arguments) throws IOException {
        int port = Integer.parseInt(arguments[1]);
        Log log = arguments[2].equals("off") ? null : new Log(Path.of(arguments[2]));
        if (arguments[0].equals("nio")) new Nio(log).run(port);
        else new Threads(log, arguments[0].equals("virtual") ? virtual() : Threads::start).run(port);
    }

    /** What starts a virtual thread: `Thread.startVirtualThread`, from Java 21 on. */
    static Consumer<Runnable> virtual() {
        try {
            var start = Thread.class.getMethod("startVirtualThread", Runnable.class);
            return task -> {
                try {
                    start.invoke(null, task);
                } catch (ReflectiveOperationException error) {
                    throw new IllegalStateException(error);
                }
            };
        } catch (NoSuchMethodException error) {
            throw new IllegalStateException("virtual threads need Java 21", error);
        }
    }

    // ---- a line and its answer ------------------------------------------------------------

    record Update(String location, String timestamp, long seconds, int nanos) {
        boolean isNewerThan(Update other) {
            return seconds != other.seconds ? seconds > other.seconds : nanos > other.nanos;
        }
    }

    static final Map<String, Update> clients = new ConcurrentHashMap<>();

    /** ISO 8859-1 throughout: every byte is one character and stays what it was. */
    static String answer(String line) {
        Update update = null;
        String id = null;
        StringTokenizer fields = new StringTokenizer(line, " \t\r\f\u000b");
        if (fields.countTokens() == 4 && fields.nextToken().equals("IAMAT")) {
            id = fields.nextToken();
            String location = fields.nextToken(), timestamp = fields.nextToken();
            if (id.length() <= 256 && Location.isOne(location)) update = update(location, timestamp);
        }
        if (update == null) return "? " + line + "\n";
        clients.merge(id, update, (known, fresh) -> fresh.isNewerThan(known) ? fresh : known);
        return "AT AT " + id + " " + update.location + " " + update.timestamp + "\n";
    }

    /** Null where the timestamp is none, or more than five minutes ahead of the clock. */
    static Update update(String location, String timestamp) {
        int point = timestamp.indexOf('.'), length = timestamp.length();
        int whole = point < 0 ? length : point;
        if (length > 40 || whole == 0 || whole > 18 || point == length - 1) return null;
        long seconds = 0;
        int nanos = 0, scale = 100_000_000;
        for (int i = 0; i < length; i++) {
            char digit = timestamp.charAt(i);
            if (i == point) continue;
            if (digit < '0' || digit > '9') return null;
            if (i < whole) {
                seconds = seconds * 10 + (digit - '0');
            } else {
                nanos += (digit - '0') * scale;
                scale /= 10;
            }
        }
        if (seconds > System.currentTimeMillis() / 1000 + 300) return null;
        return new Update(location, timestamp, seconds, nanos);
    }

    /** Reads an ISO 6709 location from left to right. */
    static final class Location {
        final String text;
        int at = 0;

        Location(String text) { this.text = text; }

        static boolean isOne(String text) {
            if (text.length() > 64) return false;
            Location location = new Location(text);
            if (!location.angle(2, 90) || !location.angle(3, 180)) return false;
            if (location.sign() && location.decimal() < 0) return false;
            if (text.startsWith("CRSWGS_84", location.at)) location.at += 9;
            if (text.startsWith("/", location.at)) location.at++;
            return location.at == text.length();
        }

        boolean angle(int width, int greatest) {
            if (!sign()) return false;
            int begin = at, digits = decimal();
            if (digits < 0 || digits > width && digits != width + 2 && digits != width + 4) return false;
            int degrees = number(begin, Math.min(digits, width));
            int minutes = digits > width ? number(begin + width, 2) : 0;
            int seconds = digits > width + 2 ? number(begin + width + 2, 2) : 0;
            if (minutes >= 60 || seconds >= 60) return false;
            if (degrees != greatest) return degrees < greatest;
            for (int i = begin + digits; i < at; i++) {
                if (text.charAt(i) != '.' && text.charAt(i) != '0') return false;
            }
            return minutes == 0 && seconds == 0;
        }

        boolean sign() {
            boolean found = at < text.length() && (text.charAt(at) == '+' || text.charAt(at) == '-');
            if (found) at++;
            return found;
        }

        /** The number of digits before the point, -1 where there is no number. */
        int decimal() {
            int whole = digits();
            if (whole == 0) return -1;
            if (at == text.length() || text.charAt(at) != '.') return whole;
            at++;
            return digits() == 0 ? -1 : whole;
        }

        int digits() {
            int begin = at;
            while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') at++;
            return at - begin;
        }

        int number(int begin, int count) {
            int value = 0;
            for (int i = begin; i < begin + count; i++) value = value * 10 + (text.charAt(i) - '0');
            return value;
        }
    }

    // ---- the log --------------------------------------------------------------------------

    static final class Log {
        static final DateTimeFormatter FORMAT =
                DateTimeFormatter.ofPattern("dd-MMM-yy HH:mm:ss", Locale.ENGLISH);
        final Writer file;
        long second;
        String stamp;

        Log(Path path) throws IOException {
            file = Files.newBufferedWriter(path, StandardCharsets.ISO_8859_1,
                    StandardOpenOption.CREATE, StandardOpenOption.APPEND);
            Runtime.getRuntime().addShutdownHook(new Thread(() -> flush()));
        }

        synchronized void info(String message) {
            long now = System.currentTimeMillis() / 1000;
            try {
                if (now != second) {
                    second = now;
                    stamp = FORMAT.format(LocalDateTime.now()) + " - INFO: ";
                    file.flush(); // Nobody waits for a record longer than a second.
                }
                file.append(stamp).append(message).append('\n');
            } catch (IOException error) {
                System.err.println("the log can't be written: " + error);
            }
        }

        synchronized void flush() {
            try {
                file.flush();
            } catch (IOException error) {
                System.err.println("the log can't be written: " + error);
            }
        }
    }

    // ---- a selector -----------------------------------------------------------------------

    /** One thread, one read and one write a readiness. */
    record Nio(Log log) {
        static final class Connection {
            String peer;
            ByteArrayOutputStream begun = new ByteArrayOutputStream(0);
            ByteBuffer unsent;
        }

        void run(int port) throws IOException {
            Selector selector = Selector.open();
            ServerSocketChannel listener = ServerSocketChannel.open();
            listener.bind(new InetSocketAddress("127.0.0.1", port), BACKLOG);
            listener.configureBlocking(false);
            listener.register(selector, SelectionKey.OP_ACCEPT);
            ByteBuffer input = ByteBuffer.allocateDirect(READ_BYTES);
            while (true) {
                selector.select(key -> {
                    try {
                        if (key.isAcceptable()) accept(listener, selector);
                        else if (key.isWritable()) write(key);
                        else serve(key, input);
                    } catch (IOException error) {
                        close(key);
                    }
                });
            }
        }

        void accept(ServerSocketChannel listener, Selector selector) throws IOException {
            for (SocketChannel channel; (channel = listener.accept()) != null; ) {
                channel.configureBlocking(false);
                channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
                Connection connection = new Connection();
                connection.peer = channel.getRemoteAddress().toString().substring(1);
                channel.register(selector, SelectionKey.OP_READ, connection);
                if (log != null) log.info("Client " + connection.peer + " is connected.");
            }
        }

        void serve(SelectionKey key, ByteBuffer input) throws IOException {
            Connection connection = (Connection) key.attachment();
            input.clear();
            int count = ((SocketChannel) key.channel()).read(input);
            if (count < 0) {
                close(key);
                return;
            }
            byte[] bytes = new byte[count];
            input.flip().get(bytes);
            StringBuilder out = new StringBuilder();
            int begin = 0;
            for (int end = 0; end < count; end++) {
                if (bytes[end] != '\n') continue;
                connection.begun.write(bytes, begin, end - begin);
                String line = connection.begun.toString(StandardCharsets.ISO_8859_1);
                connection.begun.reset();
                begin = end + 1;
                if (line.endsWith("\r")) line = line.substring(0, line.length() - 1);
                if (log != null) log.info("Received from " + connection.peer + ": " + line);
                String answer = answer(line);
                out.append(answer);
                if (log != null) log.info("Sent to " + connection.peer + ": " + answer.stripTrailing());
            }
            connection.begun.write(bytes, begin, count - begin);
            if (connection.begun.size() > LINE_BYTES) close(key);
            connection.unsent = ByteBuffer.wrap(out.toString().getBytes(StandardCharsets.ISO_8859_1));
            write(key);
        }

        /** While the kernel takes no more, nothing more is read. */
        void write(SelectionKey key) throws IOException {
            Connection connection = (Connection) key.attachment();
            if (connection.unsent.hasRemaining()) ((SocketChannel) key.channel()).write(connection.unsent);
            boolean blocked = connection.unsent.hasRemaining();
            int wish = blocked ? SelectionKey.OP_WRITE : SelectionKey.OP_READ;
            if (key.interestOps() != wish) key.interestOps(wish);
        }

        void close(SelectionKey key) {
            try {
                key.channel().close();
            } catch (IOException error) {
                // It is closed.
            }
            if (log != null) log.info("Client " + ((Connection) key.attachment()).peer + " is disconnected.");
        }
    }

    // ---- a thread a connection --------------------------------------------------------------

    record Threads(Log log, Consumer<Runnable> starter) {
        static void start(Runnable task) {
            new Thread(null, task, "client", 64 * 1024).start();
        }

        void run(int port) throws IOException {
            ServerSocket listener = new ServerSocket(port, BACKLOG, InetAddress.getByName("127.0.0.1"));
            while (true) {
                Socket socket = listener.accept();
                starter.accept(() -> serve(socket));
            }
        }

        void serve(Socket socket) {
            String peer = socket.getRemoteSocketAddress().toString().substring(1);
            if (log != null) log.info("Client " + peer + " is connected.");
            try (socket) {
                socket.setTcpNoDelay(true);
                BufferedReader reader = new BufferedReader(
                        new InputStreamReader(socket.getInputStream(), StandardCharsets.ISO_8859_1));
                OutputStream out = socket.getOutputStream();
                for (String line; (line = reader.readLine()) != null; ) {
                    if (log != null) log.info("Received from " + peer + ": " + line);
                    String answer = answer(line);
                    out.write(answer.getBytes(StandardCharsets.ISO_8859_1));
                    if (log != null) log.info("Sent to " + peer + ": " + answer.stripTrailing());
                }
            } catch (IOException error) {
                // The client is gone.
            }
            if (log != null) log.info("Client " + peer + " is disconnected.");
        }
    }
}
