"""How well finished slides match what is known of them."""
