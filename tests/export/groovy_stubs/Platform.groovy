package javafx.application

class Platform {
    static void runLater(Runnable runnable) { runnable.run() }
}
