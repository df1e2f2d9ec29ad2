// java -cp 'jars/*' Subscriber.java localhost:9092 prints, after each message, what its account is in.
// In jars/: kafka-clients, slf4j-api and Jackson's databind, core and annotations.
import com.fasterxml.jackson.databind.*;
import java.time.Duration;
import java.util.*;
import java.util.stream.Stream;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

public class Subscriber {
    record Said(long[] order, JsonNode what) {}

    static final String STATE = "account.state", KEPT = ""; // said of all: KEPT by segment.memberships
    static final Set<String> TYPES = Set.of("segment.moved", "segment.entered", "segment.left", STATE, KEPT);
    static final ObjectMapper JSON = new ObjectMapper();
    static final Said NOTHING = new Said(new long[0], JSON.createObjectNode()); // earlier than everything
    static final Map<String, Map<String, Said>> newest = new HashMap<>(); // account -> dimension, STATE or KEPT

    static void take(String account, String value) throws Exception {
        var known = newest.computeIfAbsent(account, each -> new HashMap<>());
        if (value == null) { // a tombstone takes back what segment.memberships said
            known.remove(KEPT);
            return;
        }
        JsonNode message = JSON.readTree(value), data = message.has("data") ? message.get("data") : message;
        String type = message.path("type").asText(KEPT);
        if (!TYPES.contains(type)) return;
        long[] order = Stream.of("epoch", "offset", "n")
            .mapToLong(part -> data.get("position").get(part).asLong()).toArray();
        JsonNode said = Stream.of("memberships", "members", "to")
            .filter(data::has).map(data::get).findFirst().get();
        known.merge(data.path("dimension").asText(type), new Said(order, said), Subscriber::later);
    }

    static Said later(Said a, Said b) {
        return Arrays.compare(b.order, a.order) > 0 ? b : a;
    }

    static Map<String, JsonNode> memberships(String account) {
        var known = newest.getOrDefault(account, Map.of());
        Said whole = later(known.getOrDefault(STATE, NOTHING), known.getOrDefault(KEPT, NOTHING));
        var now = new TreeMap<String, JsonNode>();
        whole.what.properties().forEach(each ->
            now.put(each.getKey(), each.getValue().has("answer") ? each.getValue().get("answer") : each.getValue()));
        known.forEach((name, each) -> {
            boolean ofAll = name.equals(STATE) || name.equals(KEPT);
            if (!ofAll && Arrays.compare(each.order, whole.order) > 0) now.put(name, each.what);
        });
        return now;
    }

    public static void main(String[] arguments) throws Exception {
        String prefix = arguments.length > 1 ? arguments[1] : "";
        Map<String, Object> settings = Map.of("bootstrap.servers", arguments[0], "enable.auto.commit", "false");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(Stream.of("segment.memberships", "segment.changes")
                .flatMap(topic -> consumer.partitionsFor(prefix + topic).stream())
                .map(each -> new TopicPartition(each.topic(), each.partition())).toList());
            consumer.seekToBeginning(consumer.assignment());
            while (true)
                for (var message : consumer.poll(Duration.ofSeconds(1))) {
                    take(message.key(), message.value());
                    System.out.println(JSON.writeValueAsString(List.of(message.key(), memberships(message.key()))));
                }
        }
    }
}
