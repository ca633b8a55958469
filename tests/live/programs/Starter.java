// SPDX-License-Identifier: GPL-2.0-or-later

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URLDecoder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;

/** Starts what each line of its input says: HOW, and the arguments, URL-encoded; tells the process id, or the error. */
public class Starter {
    static String start(String how, List<String> arguments) throws InterruptedException {
        try {
            Process process;
            switch (how) {
                case "runtime":
                    process = Runtime.getRuntime().exec(arguments.toArray(new String[0]));
                    break;
                case "line":
                    process = Runtime.getRuntime().exec(String.join(" ", arguments));
                    break;
                default:
                    process = new ProcessBuilder(arguments).start();
            }
            process.waitFor();
            return Long.toString(process.pid());
        } catch (IOException error) {
            return error.getMessage().replace('\n', ' ');
        }
    }

    /** Threads that start /bin/true at once, each with its number as the argument. */
    static void crowd(int size) throws InterruptedException {
        CountDownLatch begin = new CountDownLatch(1);
        List<Thread> threads = new ArrayList<>();
        String[] told = new String[size];
        for (int i = 0; i < size; i++) {
            int number = i;
            Thread thread = new Thread(() -> {
                try {
                    begin.await();
                    told[number] = start("builder", Arrays.asList("/bin/true", Integer.toString(number)));
                } catch (InterruptedException error) {
                    told[number] = "interrupted";
                }
            });
            thread.start();
            threads.add(thread);
        }
        begin.countDown();
        for (Thread thread : threads) {
            thread.join();
        }
        System.out.println(String.join(" ", told));
    }

    public static void main(String[] none) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        System.out.println("ready");
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            List<String> words = new ArrayList<>();
            for (String word : line.split(" ", -1)) {
                words.add(URLDecoder.decode(word, "UTF-8"));
            }
            if (words.get(0).equals("crowd")) {
                crowd(Integer.parseInt(words.get(1)));
            } else {
                System.out.println(start(words.get(0), words.subList(1, words.size())));
            }
        }
    }
}
